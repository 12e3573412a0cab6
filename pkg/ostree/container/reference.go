// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// Transports that need no other program.
const (
	TransportLayout  = "oci"
	TransportArchive = "oci-archive"
)

// Reference says where an image is.
type Reference struct {
	// Transport is "oci", "oci-archive", or one that skopeo knows, such as "docker".
	Transport string
	// Path of the folder or archive and the image's name in it; for other transports
	// all of what follows the colon.
	Path, Tag string
}

// ParseReference reads TRANSPORT:REST. Source: containers-transports(5).
func ParseReference(s string) (Reference, error) {
	transport, rest, ok := strings.Cut(s, ":")
	if !ok || transport == "" || rest == "" || strings.ContainsAny(transport, "/.-") && transport != TransportArchive &&
		transport != "docker-archive" && transport != "docker-daemon" && transport != "containers-storage" {
		return Reference{}, fmt.Errorf("%w: image %q: want oci:FOLDER[:TAG], oci-archive:FILE[:TAG] or docker://NAME", ostree.ErrInvalid, clip(s))
	}
	r := Reference{Transport: transport, Path: rest}
	if r.Native() {
		r.Path, r.Tag, _ = strings.Cut(rest, ":")
		if r.Path == "" {
			return Reference{}, fmt.Errorf("%w: image %q names no file", ostree.ErrInvalid, clip(s))
		}
	}
	return r, nil
}

// Native tells transports that this package reads and writes itself.
func (r Reference) Native() bool {
	return r.Transport == TransportLayout || r.Transport == TransportArchive
}

func (r Reference) String() string {
	if r.Tag != "" {
		return r.Transport + ":" + r.Path + ":" + r.Tag
	}
	return r.Transport + ":" + r.Path
}
