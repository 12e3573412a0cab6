// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// compsGroup is one group of the comps file.
type compsGroup struct {
	id, name, description string
	mandatory, optional   []string
}

func compsGroups() []compsGroup {
	return []compsGroup{
		{"core", "Core", "The smallest system that boots.", words(`basesystem linux-image-amd64 systemd systemd-sysv udev dbus
			libpam-systemd dracut kmod e2fsprogs iproute2 less procps`), words("man-db vim-tiny nano")},
		{"server", "Server", "A machine on a network.", words(`openssh-server openssh-client sudo curl rsync ca-certificates
			systemd-resolved systemd-timesyncd nftables iputils-ping tzdata`), words("tcpdump tmux")},
		{"containers", "Containers", "Running containers.", words("podman crun conmon netavark aardvark-dns"),
			words("fuse-overlayfs slirp4netns uidmap")},
		{"boot-loaders", "Boot loaders", "GRUB for BIOS and UEFI.", words("grub-pc-bin grub-efi-amd64-bin grub2-common"), nil},
		{"scripting", "Scripting languages", "Python and Perl.", words("python3 perl"), words("git jq")},
	}
}

// comps writes comps.xml for the groups, without packages the state lacks.
func comps(pkgs []published) []byte {
	have := map[string]bool{}
	for _, p := range pkgs {
		have[p.Name] = true
	}
	var b bytes.Buffer
	b.WriteString(xml.Header + "<comps>\n")
	var ids []string
	for _, g := range compsGroups() {
		ids = append(ids, g.id)
		fmt.Fprintf(&b, " <group>\n  <id>%s</id>\n  <name>%s</name>\n  <description>%s</description>\n", g.id, g.name, g.description)
		fmt.Fprintf(&b, "  <default>%t</default>\n  <uservisible>true</uservisible>\n  <packagelist>\n", g.id == "core")
		writeReqs(&b, "mandatory", g.mandatory, have)
		writeReqs(&b, "optional", g.optional, have)
		b.WriteString("  </packagelist>\n </group>\n")
	}
	b.WriteString(" <environment>\n  <id>standard</id>\n  <name>Standard system</name>\n  <description>Everything a server needs.</description>\n  <display_order>1</display_order>\n  <grouplist>\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "   <groupid>%s</groupid>\n", id)
	}
	b.WriteString("  </grouplist>\n </environment>\n</comps>\n")
	return b.Bytes()
}

func writeReqs(b *bytes.Buffer, kind string, list []string, have map[string]bool) {
	for _, n := range list {
		if have[n] {
			fmt.Fprintf(b, "   <packagereq type=%q>%s</packagereq>\n", kind, xmlText(n))
		}
	}
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
