// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// TestBackends is what every boot loader must do: after each change its model boots
// what was asked for.
func TestBackends(t *testing.T) {
	for _, l := range loaders() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			m.expect("upgrade 1", "1a root=x rw 1")
			m.foreign()
			m.expect("upgrade 2", "2b root=x rw 1")
			m.expect("rollback", "1a root=x rw 1")
			m.expect("reorder", "2b root=x rw 1")
			m.expect("upgrade 3", "3b root=x rw 1") // the kernel of 2
			m.expect("upgrade 3", "3b root=x rw 1") // the same commit
			m.expect("kargs quiet", "3b root=x rw quiet 1")
			m.expect("kargs a=\"b c\"", m.quoted("3b root=x rw quiet a=\"b c\" 1"))
			m.expect("upgrade 1", m.quoted("1a root=x rw quiet a=\"b c\" 1"))
			m.expect("undeploy", m.quoted("1a root=x rw quiet a=\"b c\" 1"))
			if m.initrds != 1 {
				m.expect("overlay 2", m.quoted("2b root=x rw quiet a=\"b c\" 2"))
				m.expect("overlay 3", m.quoted("3b root=x rw quiet a=\"b c\" 2")) // they share it
			}
			m.leftovers()
			m.expect("upgrade 4", m.quoted("4c root=x rw quiet a=\"b c\" 1"))
			m.noLeftovers()
			m.kept()
		})
	}
}

func (m *machine) expect(change, want string) {
	m.t.Helper()
	m.must(change)
	if got, err := m.boot(); got != want {
		m.t.Fatalf("%s: boots %q, want %q: %v", change, got, want, err)
	}
}

// quoted is how arguments reach the kernel: GRUB takes the quotation marks off.
func (m *machine) quoted(options string) string {
	if strings.HasPrefix(m.name, "grub2") {
		return strings.ReplaceAll(options, `"`, "")
	}
	return options
}

// entries gives the folder of the menu in force.
func (m *machine) entries() string {
	dir, err := filepath.EvalSymlinks(m.path(bootFolder, "loader/entries"))
	testutil.Must(m.t, err)
	return dir
}

const foreignEntry = "title Theirs\nversion 0\nefi /theirs.efi\n"

func (m *machine) foreign() {
	testutil.Must(m.t, os.WriteFile(filepath.Join(m.entries(), "theirs.conf"), []byte(foreignEntry), 0o644))
}

// kept tells that what others own is as they left it.
func (m *machine) kept() {
	m.t.Helper()
	want := map[string]string{filepath.Join(m.entries(), "theirs.conf"): foreignEntry}
	for name, data := range m.files {
		want[m.path(bootFolder, name)] = data
	}
	for name, data := range want {
		got, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(got), data) {
			m.t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// garbage is what crashes of all kinds may have left in /boot.
func (m *machine) garbage() []string {
	list := []string{"ostree/os-" + strings.Repeat("ab", 32) + "/vmlinuz-x.tmp", "ostree/initramfs-overlays/new.tmp"}
	if m.fat {
		return append(list, "loader/entries/ostree-0-7.conf.new", "loader/entries/ostree-1-7.conf.new")
	}
	return append(list, "loader.tmp")
}

func (m *machine) leftovers() {
	for _, name := range m.garbage() {
		testutil.Must(m.t, os.MkdirAll(filepath.Dir(m.path(bootFolder, name)), 0o755))
		testutil.Must(m.t, os.WriteFile(m.path(bootFolder, name), []byte("garbage"), 0o644))
	}
}

func (m *machine) noLeftovers() {
	m.t.Helper()
	for _, name := range m.garbage() {
		if _, err := os.Lstat(m.path(bootFolder, name)); !errors.Is(err, os.ErrNotExist) {
			m.t.Errorf("%s is still there: %v", name, err)
		}
	}
}

// snapshot is every name and content in /boot.
func (m *machine) snapshot() map[string]string {
	m.t.Helper()
	d, err := readDisk(m.path(bootFolder))
	testutil.Must(m.t, err)
	out := map[string]string{}
	for name, n := range d.names {
		out[name] = string(n.data)
	}
	return out
}

// TestBootRefuses: a /boot that is full or cannot be written is a clear error, and
// stays as it was.
func TestBootRefuses(t *testing.T) {
	testutil.Tool(t, "mount")
	for _, l := range loaders() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			boot := m.path(bootFolder)
			testutil.Must(t, os.Rename(boot, boot+".is"))
			testutil.Must(t, os.Mkdir(boot, 0o755))
			testutil.Run(t, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", boot)
			t.Cleanup(func() { testutil.Run(t, "umount", "-l", boot) })
			testutil.Run(t, "cp", "-a", boot+".is/.", boot)
			m.expect("upgrade 1", "1a root=x rw 1")
			m.expect("upgrade 2", "2b root=x rw 1")
			refused := func(want error) {
				t.Helper()
				before := m.snapshot()
				if err := m.change("upgrade 4"); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				if d := cmp.Diff(before, m.snapshot()); d != "" {
					t.Error(d)
				}
				if got := m.boots(); got != "2b root=x rw 1" {
					t.Errorf("boots %s", got)
				}
			}
			big := filepath.Join(boot, "big")
			testutil.Must(t, os.WriteFile(big, make([]byte, 7<<20), 0o644))
			refused(deploy.ErrBootSpace)
			testutil.Must(t, os.Remove(big))
			remountReadOnly(t, boot)
			refused(syscall.EROFS)
			testutil.Run(t, "mount", "-o", "remount,rw", boot)
			m.expect("upgrade 4", "4c root=x rw 1")
		})
	}
}

// remountReadOnly waits for programs that other tests are about to start: between
// fork and exec they have the files open that this process is writing.
func remountReadOnly(t *testing.T, dir string) {
	t.Helper()
	var err error
	for range 100 {
		if err = syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); !errors.Is(err, syscall.EBUSY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	testutil.Must(t, err)
}
