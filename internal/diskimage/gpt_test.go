// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// TestTableAgainstSfdisk lets the table be read, and its backup checked, by the
// program that everybody uses.
func TestTableAgainstSfdisk(t *testing.T) {
	t.Parallel()
	sfdisk := testutil.Tool(t, "sfdisk")
	i, err := newIDs("seed")
	if err != nil {
		t.Fatal(err)
	}
	l, err := planLayout(Options{Size: 2048*mib + 12345, BootSize: 256 * mib}, content{}, i)
	if err != nil {
		t.Fatal(err)
	}
	if l.Size != 2048*mib {
		t.Errorf("size %d", l.Size)
	}
	name := filepath.Join(t.TempDir(), "disk")
	writeDisk(t, name, l, i)
	if out, err := exec.Command(sfdisk, "--verify", name).CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "No errors detected") {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
	out, err := exec.Command(sfdisk, "--json", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		PartitionTable struct {
			Label, ID  string
			Lastlba    int64
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	pt := got.PartitionTable
	if pt.Label != "gpt" || !strings.EqualFold(pt.ID, i.disk.String()) || pt.Lastlba != 2048*mib/sectorSize-34 {
		t.Errorf("table: %+v", pt)
	}
	if len(pt.Partitions) != 3 {
		t.Fatalf("partitions: %s", out)
	}
	for n, want := range l.Partitions {
		p := pt.Partitions[n]
		if p.Start*sectorSize != want.Start || p.Size*sectorSize != want.Size || p.Name != want.Name ||
			!strings.EqualFold(p.Type, want.Type.String()) || !strings.EqualFold(p.UUID, want.ID.String()) {
			t.Errorf("partition %d: got %+v, want %+v", n, p, want)
		}
	}
}

// TestBackupTable destroys the primary table and expects the backup to be found.
func TestBackupTable(t *testing.T) {
	t.Parallel()
	sfdisk := testutil.Tool(t, "sfdisk")
	i, err := newIDs("seed")
	if err != nil {
		t.Fatal(err)
	}
	l, err := planLayout(Options{Size: 1024 * mib, BootSize: 256 * mib}, content{}, i)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "disk")
	writeDisk(t, name, l, i)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 512), sectorSize); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sfdisk, "--json", name).Output()
	if err != nil || !strings.Contains(strings.ToLower(string(out)), i.rootPart.String()) {
		t.Errorf("backup not used: %v: %s", err, out)
	}
}

func TestLayoutRefusesTooSmall(t *testing.T) {
	t.Parallel()
	big := content{root: tree{Inodes: 1000, Bytes: 1 << 30}, boot: tree{Inodes: 10, Bytes: 100 << 20}}
	for _, o := range []Options{
		{Size: 1 << 30, BootSize: 256 * mib},
		{Size: 4 << 30, BootSize: 64 * mib},
	} {
		if l, err := planLayout(o, big, ids{}); err == nil {
			t.Errorf("%+v: %+v", o, l)
		}
	}
	if _, err := planLayout(Options{Size: 4 << 30, BootSize: 256 * mib}, big, ids{}); err != nil {
		t.Error(err)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	a, _ := newIDs("x")
	b, _ := newIDs("x")
	c, _ := newIDs("y")
	d, _ := newIDs("")
	e, _ := newIDs("")
	if a != b || a == c || d == e || a.boot == a.root {
		t.Error("identifiers don't follow the seed")
	}
	if s := a.disk.String(); s[14] != '4' || !strings.ContainsRune("89ab", rune(s[19])) {
		t.Errorf("%s is no version 4 UUID", s)
	}
}

func writeDisk(t *testing.T, name string, l Layout, i ids) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		t.Fatal(err)
	}
	b := builder{layout: l, ids: i, f: f}
	if err := b.writeTable(t.Context()); err != nil {
		t.Fatal(err)
	}
}
