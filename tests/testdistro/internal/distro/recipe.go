// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"regexp"
	"strings"

	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// Attr overrides how a file is packaged; Debian's maintainer scripts do the
// same with dpkg-statoverride and setcap.
type Attr struct {
	Mode        uint32
	User, Group string
	Caps        string
}

func (a Attr) apply(f *rpmspec.File) {
	f.Mode, f.User, f.Group, f.Caps = a.Mode, owner(a.User), owner(a.Group), a.Caps
}

// Copy is a file (or, for links, the target) and where it is wanted.
type Copy struct{ From, To string }

// Rewrite replaces what a regular expression matches in a relative path.
type Rewrite struct{ Pattern, With string }

// Recipe is what a package needs beyond the mechanical conversion. It is part
// of the cache key, so it holds plain data only, and a field that is not set
// leaves the key alone.
type Recipe struct {
	Absorb       string              `json:",omitempty"` // take files and relations from the dependency that matches
	Prune        []string            `json:",omitempty"` // regular expressions of relative paths
	Rewrites     []Rewrite           `json:",omitempty"`
	Attrs        map[string]Attr     `json:",omitempty"`
	Copies       []Copy              `json:",omitempty"`
	Links        []Copy              `json:",omitempty"`
	Ghosts       map[string]Attr     `json:",omitempty"`
	Tags         []rpmspec.Tag       `json:",omitempty"`
	DropRequires []string            `json:",omitempty"`
	Scriptlets   []rpmspec.Scriptlet `json:",omitempty"`
	NoScan       bool                `json:",omitempty"` // skip rpm's look into every file
	Revision     int                 `json:",omitempty"` // raise it when code changes what this recipe means
}

func (r Recipe) pruned(p string) bool {
	for _, pattern := range r.Prune {
		if r.pattern(pattern).MatchString(p) {
			return true
		}
	}
	return false
}

func (r Recipe) rename(p string) string {
	for _, w := range r.Rewrites {
		p = r.pattern(w.Pattern).ReplaceAllString(p, w.With)
	}
	return p
}

// prunedModules are driver families that neither a virtual machine nor a
// server uses: three quarters of the modules' bytes, and every compose, commit
// and initramfs of the test suite would carry them. What a remaining module
// depends on is kept all the same.
var prunedModules = []string{
	`^usr/lib/modules/[^/]+/kernel/sound(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/(media|staging|isdn|infiniband|bluetooth|iio|comedi|firewire|mmc|memstick|pcmcia|parport|leds|rtc|power|hwmon|mfd|w1|accessibility|ufs|thunderbolt|soundwire|platform|edac|mtd|regulator|gnss|nfc|ntb|greybus|extcon|gpio|pwm|video|atm|crypto|dma|misc|spi|i2c|iommu|target|vfio|vdpa|auxdisplay|android|uwb|usb/gadget|usb/serial|usb/misc|usb/atm|usb/image)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/gpu/drm/(amd|nouveau|i915|radeon|gma500|mgag200|ast|vmwgfx|xe|udl|gud|panel|bridge|i2c)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/input/(joystick|touchscreen|tablet|misc|mouse|gameport)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/net/(wireless|can|hamradio|arcnet|fddi|hippi|ieee802154|wwan|wan|plip|slip|ppp|usb|dsa|phy|appletalk|fjes|thunderbolt)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/net/ethernet/(mellanox|chelsio|qlogic|broadcom|cavium|netronome|sfc|emulex|marvell|amazon|aquantia|brocade|cisco|huawei|pensando|sun|fungible|microsoft|google|smsc|stmicro|sis|tehuti|ti|via|wiznet|adaptec|alteon|dec|dlink|dnet|fealnx|neterion|natsemi|nvidia|oki-semi|packetengines|rdc|silan|atheros|8390|3com|altera|agere|jme|micrel|micro[^/]*)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/drivers/scsi/(lpfc|qla2xxx|qla4xxx|bfa|be2iscsi|bnx2fc|bnx2i|csiostor|cxgbi|aic7xxx|aic94xx|aacraid|arcmsr|fnic|hpsa|isci|megaraid|mpi3mr|mpt3sas|mvsas|pm8001|qedf|qedi|smartpqi|snic|sym53c8xx_2|esas2r|elx|pcmcia|fcoe|libfc)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/fs/(ocfs2|gfs2|ceph|smb|cifs|coda|afs|jfs|reiserfs|ubifs|jffs2|orangefs|nilfs2|f2fs|hfs|hfsplus|befs|affs|minix|sysv|qnx4|qnx6|adfs|bfs|efs|freevxfs|hpfs|omfs|ufs|zonefs|dlm|ecryptfs|ntfs|ntfs3|udf|9p_)(/|$)`,
	`^usr/lib/modules/[^/]+/kernel/net/(bluetooth|mac80211|wireless|can|ceph|rds|tipc|sctp|sunrpc_|ax25|netrom|rose|atm|dccp|batman-adv|nfc|ieee802154|mac802154|6lowpan|openvswitch|appletalk|lapb|x25|caif|kcm|smc|rxrpc|l2tp|phonet)(/|$)`,
}

// recipe returns what is known about the package.
func recipe(name string) Recipe { return recipes()[name] }

func recipes() map[string]Recipe {
	accounts := func(lines ...string) []rpmspec.Scriptlet {
		return []rpmspec.Scriptlet{{Kind: "%pre", Body: strings.Join(lines, "\n") + "\nexit 0\n"}}
	}
	req := func(v string) rpmspec.Tag { return rpmspec.Tag{Name: "Requires(pre)", Value: v} }
	return map[string]Recipe{
		"linux-image-amd64": {
			Absorb:   `^linux-image-[0-9].*-amd64$`,
			Revision: 1,
			Prune:    prunedModules,
			Rewrites: []Rewrite{
				{`^boot/(vmlinuz|config|System\.map)-(.+)$`, "usr/lib/modules/$2/$1"},
			},
			Ghosts: map[string]Attr{
				"/usr/lib/modules/@KVER@/modules.dep":       {Mode: 0o644},
				"/usr/lib/modules/@KVER@/modules.dep.bin":   {Mode: 0o644},
				"/usr/lib/modules/@KVER@/modules.alias":     {Mode: 0o644},
				"/usr/lib/modules/@KVER@/modules.alias.bin": {Mode: 0o644},
				"/usr/lib/modules/@KVER@/modules.symbols":   {Mode: 0o644},
			},
			Tags:   []rpmspec.Tag{{Name: "Requires(posttrans)", Value: "kmod"}},
			NoScan: true,
			Scriptlets: []rpmspec.Scriptlet{
				{Kind: "%posttrans", Body: "/usr/sbin/depmod -a @KVER@ || :\n"},
			},
		},
		"libc-bin": {Scriptlets: []rpmspec.Scriptlet{
			{Kind: "%transfiletriggerin", Args: "-P 2000000 -- /lib /usr/lib /lib64 /usr/lib64", Body: "/sbin/ldconfig\n"},
			{Kind: "%transfiletriggerpostun", Args: "-P 2000000 -- /lib /usr/lib /lib64 /usr/lib64", Body: "/sbin/ldconfig\n"},
		}},
		"libc6": {Tags: []rpmspec.Tag{{Name: "Provides", Value: "rtld(GNU_HASH)"}, req("filesystem")}},
		"iputils-ping": {Attrs: map[string]Attr{
			"/usr/bin/ping": {Mode: 0o755, Caps: "cap_net_raw=ep"},
		}},
		"openssh-client": {
			Attrs: map[string]Attr{"/usr/bin/ssh-agent": {Mode: 0o2755, Group: "_ssh"}},
			Tags:  []rpmspec.Tag{req("passwd"), {Name: "Provides", Value: "group(_ssh)"}},
			Scriptlets: accounts(
				"getent group _ssh >/dev/null || groupadd -r _ssh"),
		},
		"openssh-server": {
			Copies: []Copy{{"/usr/share/openssh/sshd_config", "/etc/ssh/sshd_config"}},
			Tags:   []rpmspec.Tag{req("passwd"), {Name: "Provides", Value: "user(sshd)"}},
			Scriptlets: accounts(
				"getent passwd sshd >/dev/null || useradd -r -g nogroup -d /run/sshd -s /usr/sbin/nologin -c 'Privilege-separated SSH' sshd"),
		},
		"dbus-system-bus-common": {
			Tags: []rpmspec.Tag{req("passwd"), {Name: "Provides", Value: "user(messagebus)"}, {Name: "Provides", Value: "group(messagebus)"}},
			Scriptlets: accounts(
				"getent group messagebus >/dev/null || groupadd -r messagebus",
				"getent passwd messagebus >/dev/null || useradd -r -g messagebus -d /nonexistent -s /usr/sbin/nologin messagebus"),
		},
		"dbus": {
			Attrs: map[string]Attr{"/usr/lib/dbus-1.0/dbus-daemon-launch-helper": {Mode: 0o4754, Group: "messagebus"}},
			Tags:  []rpmspec.Tag{req("dbus-system-bus-common")},
		},
		"polkitd": {
			Attrs: map[string]Attr{
				"/etc/polkit-1/rules.d":                   {Mode: 0o700, User: "polkitd"},
				"/usr/lib/polkit-1/polkit-agent-helper-1": {Mode: 0o4755},
			},
			Tags: []rpmspec.Tag{req("passwd"), {Name: "Provides", Value: "user(polkitd)"}},
			Scriptlets: accounts(
				"getent group polkitd >/dev/null || groupadd -r polkitd",
				"getent passwd polkitd >/dev/null || useradd -r -g polkitd -d /nonexistent -s /usr/sbin/nologin polkitd"),
		},
		"tcpdump": {
			Tags: []rpmspec.Tag{req("passwd")},
			Scriptlets: accounts(
				"getent group tcpdump >/dev/null || groupadd -r tcpdump",
				"getent passwd tcpdump >/dev/null || useradd -r -g tcpdump -d /nonexistent -s /usr/sbin/nologin tcpdump"),
		},
		"sudo":            {Attrs: map[string]Attr{"/etc/sudoers": {Mode: 0o440}}},
		"readline-common": {Copies: []Copy{{"/usr/share/readline/inputrc", "/etc/inputrc"}}},
		"fuse3":           {Attrs: map[string]Attr{"/usr/bin/fusermount3": {Mode: 0o4755}}},
		"systemd": {
			Tags: []rpmspec.Tag{req("testdistro-release"), req("passwd")},
			Scriptlets: []rpmspec.Scriptlet{
				{Kind: "%post", Body: "systemd-machine-id-setup >/dev/null 2>&1 || :\n" +
					"if [ $1 -eq 1 ]; then systemctl preset-all >/dev/null 2>&1 || :; fi\n"},
				{Kind: "%filetriggerin", Args: "-P 900800 -- /usr/lib/systemd/system /etc/systemd/system",
					Body: "if [ -d /run/systemd/system ]; then systemctl daemon-reload || :; fi\n"},
				{Kind: "%transfiletriggerin", Args: "-P 1000700 -- /usr/lib/sysusers.d", Body: "systemd-sysusers || :\n"},
				{Kind: "%transfiletriggerin", Args: "-P 1000500 -- /usr/lib/tmpfiles.d",
					Body: "if [ -d /run/systemd/system ]; then systemd-tmpfiles --create || :; fi\n"},
			},
		},
		"udev": {Scriptlets: []rpmspec.Scriptlet{
			{Kind: "%transfiletriggerin", Args: "-P 1000600 -- /usr/lib/udev/hwdb.d /etc/udev/hwdb.d",
				Body: "systemd-hwdb --usr update || :\n"},
		}, Ghosts: map[string]Attr{"/usr/lib/udev/hwdb.bin": {Mode: 0o444}}},
		"ca-certificates": {
			Ghosts: map[string]Attr{
				"/etc/ssl/certs/ca-certificates.crt": {Mode: 0o644},
				"/etc/ca-certificates.conf":          {Mode: 0o644},
			},
			Scriptlets: []rpmspec.Scriptlet{
				{Kind: "%transfiletriggerin", Args: "-P 1000100 -- /usr/share/ca-certificates",
					Body: "cd /usr/share/ca-certificates && find . -name '*.crt' -type f | sed 's,^\\./,,' | sort >/etc/ca-certificates.conf\n" +
						"update-ca-certificates --fresh >/dev/null || :\n"},
			},
		},
		"mawk": alternative("awk", "/usr/bin/awk", "/usr/bin/mawk", 5),
		"less": alternative("pager", "/usr/bin/pager", "/usr/bin/less", 77),
		"nano": alternatives(
			[4]string{"editor", "/usr/bin/editor", "/usr/bin/nano", "40"},
			[4]string{"pico", "/usr/bin/pico", "/usr/bin/nano", "10"}),
		"tar":      alternative("rmt", "/usr/sbin/rmt", "/usr/sbin/rmt-tar", 50),
		"xz-utils": alternative("lzma", "/usr/bin/lzma", "/usr/bin/xz", 20),
		"vim-tiny": alternatives(
			[4]string{"editor", "/usr/bin/editor", "/usr/bin/vim.tiny", "15"},
			[4]string{"ex", "/usr/bin/ex", "/usr/bin/vim.tiny", "15"},
			[4]string{"view", "/usr/bin/view", "/usr/bin/vim.tiny", "15"},
			[4]string{"vi", "/usr/bin/vi", "/usr/bin/vim.tiny", "15"}),
		"debianutils": alternative("which", "/usr/bin/which", "/usr/bin/which.debianutils", 0),
	}
}

// pattern compiles one of the recipe's expressions; they are constants of this
// package, so a bad one is a programming error.
func (r Recipe) pattern(s string) *regexp.Regexp { return regexp.MustCompile(s) }
