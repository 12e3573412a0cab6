// SPDX-License-Identifier: Apache-2.0

// Package version holds the version that both programs print.
package version

import "runtime/debug"

// Version is set at link time (-ldflags "-X …/internal/version.Version=1.2.3").
var Version = ""

// String returns the linked-in version, else the module's, else "devel".
func String() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
