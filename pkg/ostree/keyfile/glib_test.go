// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// glibScript reads a JSON list of texts and prints for each what GLib makes of
// it: null when it does not parse, else group -> key -> [string, list]; null
// stands for a value that GLib refuses.
const glibScript = `
const GLib = imports.gi.GLib;
const [, bytes] = GLib.file_get_contents(ARGV[0]);
const texts = JSON.parse(new TextDecoder().decode(bytes));
const attempt = f => { try { return f(); } catch (e) { if (!(e instanceof GLib.Error)) throw e; return null; } };
print(JSON.stringify(texts.map(text => attempt(() => {
  const kf = new GLib.KeyFile();
  kf.load_from_data(text, new TextEncoder().encode(text).length, GLib.KeyFileFlags.KEEP_COMMENTS | GLib.KeyFileFlags.KEEP_TRANSLATIONS);
  const out = {};
  for (const g of kf.get_groups()[0]) {
    out[g] = {};
    for (const k of kf.get_keys(g)[0])
      out[g][k] = [attempt(() => kf.get_string(g, k)), attempt(() => kf.get_string_list(g, k))];
  }
  return out;
}))));
`

func TestAgreesWithGLib(t *testing.T) {
	t.Parallel()
	gjs := testutil.Tool(t, "gjs")
	texts := []string{
		sample,
		"[a]\nk=v",
		"[a]\r\nk = v w \r\n",
		"  [a]  \n\tk\t=\tv\n",
		"[remote \"x y\"]\nurl=http://h/?a=b&c=d\n",
		`[a]` + "\n" + `s=\s\sx\n\t\r\\y` + "\n" + `bad=\q` + "\n" + `list=a\;b;c;;d` + "\n" + `empty=` + "\n",
		"[a]\nl=;\nm=a;b\nn=a;b;\no= a ; b ;\n",
		"[a]\nk=1\n[b]\nx=2\n[a]\nk=3\nz=4\n",
		"[a]\nk[de]=v\nk[de_DE.UTF-8@x]=w\n",
		"k=v\n",
		"[a]\nnoequals\n",
		"[a]\n=v\n",
		"[]\n",
		"[a\nk=v\n",
		"[a]b]\nk=v\n",
		"[a]\nmy key=v\n",
		"[a]\nk]=v\n",
		"# only a comment\n\n",
		"",
	}
	got := askGLib(t, gjs, texts)
	for i, text := range texts {
		f, err := Parse([]byte(text))
		if (err == nil) != (got[i] != nil) {
			t.Errorf("%q: we say %v, GLib parses: %v", text, err, got[i] != nil)
			continue
		}
		if err != nil {
			continue
		}
		if diff := cmp.Diff(got[i], dump(f)); diff != "" {
			t.Errorf("%q (-glib +ours):\n%s", text, diff)
		}
	}
}

type glibFile map[string]map[string][2]any

func askGLib(t *testing.T, gjs string, texts []string) []glibFile {
	t.Helper()
	dir := t.TempDir()
	input, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	script, data := filepath.Join(dir, "script.js"), filepath.Join(dir, "in.json")
	for name, content := range map[string][]byte{script: []byte(glibScript), data: input} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(gjs, script, data)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run gjs: %v", err)
	}
	var files []glibFile
	if err := json.Unmarshal(out, &files); err != nil {
		t.Fatalf("read the answer of gjs: %v\n%s", err, out)
	}
	return files
}

func dump(f *File) glibFile {
	out := glibFile{}
	for _, g := range f.Groups() {
		out[g] = map[string][2]any{}
		for _, k := range f.Keys(g) {
			var v [2]any
			if s, err := f.GetString(g, k); err == nil {
				v[0] = s
			}
			if l, err := f.GetStrings(g, k); err == nil {
				list := []any{}
				for _, s := range l {
					list = append(list, s)
				}
				v[1] = list
			}
			out[g][k] = v
		}
	}
	return out
}
