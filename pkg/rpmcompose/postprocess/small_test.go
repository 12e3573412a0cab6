// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// snapshot describes a tree completely, times left out.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	d := rpmtest.Dir(t, root)
	out := map[string]string{}
	testutil.Must(t, walk(d, ".", func(dir *fsx.Dir, name, full string, st fsx.Stat) error {
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.UID, st.GID)
		xattrs, err := dir.Xattrs(name)
		if err != nil {
			return err
		}
		for _, x := range xattrs {
			line += fmt.Sprintf(" %s=%x", x.Name, x.Value)
		}
		if st.IsSymlink() {
			target, err := dir.Readlink(name)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		if st.IsRegular() {
			b, err := dir.ReadFile(name, 1<<30)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
		out[full] = line
		return nil
	}))
	return out
}

// small is a package cache with a distribution of a few small packages.
type small struct {
	dir     string
	repo    *ostree.Repo
	sources []importer.Source
	n       int
}

const kver = "6.1.0-test"

// fakeKernel has a kernel in /boot only, and tools that check how they are
// called.
func fakeKernel() rpmtest.Spec {
	return rpmtest.Spec{Name: "kernel", Tags: "AutoReqProv: no", Install: `cd %{buildroot}
mkdir -p boot usr/lib/modules/` + kver + ` usr/bin usr/sbin usr/lib/dracut/modules.d/50hostctl
echo kernel > boot/vmlinuz-` + kver + `; echo map > boot/System.map-` + kver + `; echo other > boot/extra
cat > usr/bin/dracut <<'END'
#!/bin/sh
for out; do :; done
case " $* " in *" --add hostctl --test-arg "*) ;; *) echo "arguments: $*"; exit 9;; esac
[ -e /etc/passwd ] && [ -d /usr/lib/modules/` + kver + ` ] && [ -n "$SOURCE_DATE_EPOCH" ] || exit 8
echo image $SOURCE_DATE_EPOCH > $out
END
cat > usr/sbin/depmod <<'END'
#!/bin/sh
[ "$1" = -a ] && echo dep > /usr/lib/modules/$2/modules.dep
END
`, Files: "/boot/*\n/usr/lib/modules/*\n%attr(755,root,root) /usr/bin/dracut\n%attr(755,root,root) /usr/sbin/depmod\n/usr/lib/dracut"}
}

// smallDistro leaves behind everything that must not stay in a tree.
func smallDistro() rpmtest.Spec {
	return rpmtest.Spec{Name: "distro", Tags: "AutoReqProv: no", Install: `cd %{buildroot}
mkdir -p usr/lib/systemd/system usr/lib/sysusers.d etc/default usr/share/doc/distro usr/local/bin etc/ssh opt/distro var/lib/distro usr/lib/x86_64-linux-gnu
printf 'NAME=Distro\nVERSION="7 (Seven)"\nVERSION_ID=7\nPRETTY_NAME="Distro 7"\n' > usr/lib/os-release
printf '[Install]\n' > usr/lib/systemd/system/my.target
echo 'u svc - "Service"' > usr/lib/sysusers.d/svc.conf
printf '# comment\nHOME=/home\n' > etc/default/useradd
echo a > usr/share/doc/distro/a; echo b > usr/share/doc/distro/b; echo c > etc/removed
echo tool > opt/distro/tool
printf 'passwd: files systemd\ngroup: files\nhosts: files dns\n' > etc/nsswitch.conf
`, Files: `/usr/lib/os-release
/usr/lib/systemd/system/my.target
/usr/lib/sysusers.d/svc.conf
/etc/default/useradd
/usr/share/doc/distro
/etc/removed
/opt/distro
/etc/nsswitch.conf
%dir /usr/local
%dir /usr/local/bin
%dir /usr/lib/x86_64-linux-gnu
%dir %attr(750,svc,svc) /var/lib/distro`,
		Extra: `%post
mkdir -p /var/lib/made/by; ln -s by /var/lib/made/link; echo lost > /var/lib/made/file; chown svc /var/lib/made/by
touch /etc/.pwd.lock /etc/passwd-; mkdir -p /etc/ssh; echo key > /etc/ssh/ssh_host_rsa_key
: > /var/stamp; stat -c %%Y.%%i /var/stamp > /etc/machine-id
while read -r up rest; do echo $up > /var/uptime; done < /proc/uptime
echo "dated:!:$(stat -c %%Y /var/stamp):0:99999:7:::" >> /etc/shadow
`}
}

func newSmall(t *testing.T, extra ...rpmtest.Spec) *small {
	t.Helper()
	rpmtest.Needs(t, "bwrap")
	dir := t.TempDir()
	s := &small{dir: dir, repo: rpmtest.Cache(t, dir)}
	for _, spec := range append([]rpmtest.Spec{rpmtest.HostPrograms(t), smallDistro()}, extra...) {
		s.sources = append(s.sources, rpmtest.Build(t, spec))
	}
	return s
}

// compose makes a tree and gives its path.
func (s *small) compose(t *testing.T, o Options) (string, *Result, error) {
	t.Helper()
	ctx := t.Context()
	imported, err := importer.All(ctx, s.repo, s.sources, importer.AllOptions{})
	testutil.Must(t, err)
	var layers []assemble.Layer
	var headers []*rpm.Package
	for i, src := range s.sources {
		layers = append(layers, assemble.Layer{Package: src.Package, Commit: imported[i].Commit})
		headers = append(headers, src.Package)
	}
	s.n++
	work := rpmtest.Dir(t, filepath.Join(s.dir, "work"+strconv.Itoa(s.n)))
	asm, err := assemble.Assemble(ctx, s.repo, layers, work, "rootfs", assemble.Options{})
	testutil.Must(t, err)
	root, err := work.OpenDir("rootfs")
	testutil.Must(t, err)
	t.Cleanup(func() { root.Close() })
	sandbox := scripts.Options{SourceDateEpoch: 1700000000}
	testutil.Must(t, scripts.With(ctx, root, work, sandbox, func(ctx context.Context, sb *scripts.Sandbox) error {
		_, err := scripts.Install(ctx, sb, headers, scripts.InstallOptions{Owners: asm.Owners})
		return err
	}))
	o.Owned, o.Sandbox = asm.Owned, sandbox
	res, err := Run(ctx, root, work, o)
	return filepath.Join(work.Path(), "rootfs"), res, err
}

func text(t *testing.T, root, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	testutil.Must(t, err)
	return string(b)
}
