// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A line of a script runs ostree with its words; words in '…' hold spaces. Before it
// may stand:
//
//	!     the shell runs the line
//	~     the order of the output's lines does not count
//	2     standard error is compared, not standard output
//	+     our message may say more around libostree's
//	=     the status and the file "list" are compared, not what is printed
//	#     a comment
func runScript(t *testing.T, script string) {
	t.Parallel()
	real, ours := sides(t, func(*side) {})
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		mark := byte(' ')
		if strings.IndexByte("!~2+=", line[0]) >= 0 {
			mark, line = line[0], strings.TrimSpace(line[1:])
		}
		if mark == '!' {
			for _, s := range []*side{real, ours} {
				cmd := exec.CommandContext(t.Context(), "sh", "-ec", line)
				cmd.Dir = s.dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", line, err, out)
				}
			}
			continue
		}
		words := splitWords(line)
		want, got := real.run(t, words...), ours.run(t, words...)
		switch mark {
		case '~':
			want.Out, got.Out = sortLines(want.Out), sortLines(got.Out)
		case '+':
			if msg := strings.TrimPrefix(strings.TrimSpace(want.Err), "error: "); strings.Contains(got.Err, msg) {
				want.Err, got.Err = "", ""
			}
		case '2':
			want.Out, got.Out = "", ""
		case '=':
			want, got = output{Code: want.Code, Out: real.content(t, "list")}, output{Code: got.Code, Out: ours.content(t, "list")}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ostree %s (-real +ours):\n%s", line, diff)
		}
	}
}

// splitWords splits at spaces outside of single quotes, which may be anywhere in a
// word; \n is a newline.
func splitWords(line string) []string {
	var words []string
	var b strings.Builder
	quoted, some := false, false
	for _, r := range strings.ReplaceAll(line, `\n`, "\n") {
		switch {
		case r == '\'':
			quoted, some = !quoted, true
		case r == ' ' && !quoted:
			if some {
				words = append(words, b.String())
			}
			b.Reset()
			some = false
		default:
			b.WriteRune(r)
			some = true
		}
	}
	if some {
		words = append(words, b.String())
	}
	return words
}

func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// tree makes a small tree in t/ and a changed one in u/.
const tree = `
! mkdir -p t/usr/bin t/usr/lib t/etc u; umask 022; echo one > t/usr/bin/one; chmod 755 t/usr/bin/one; echo conf > t/etc/conf; chmod 600 t/etc/conf
! ln -s one t/usr/bin/two; ln -s usr/bin t/bin; : > t/empty; echo 'a b' > 't/usr/lib/a b'; echo ü > t/usr/lib/ü; chmod 2755 t/usr/lib
! cp -a t/. u; rm u/empty u/bin; mkdir u/bin; echo more >> u/etc/conf; mkdir -p u/new/dir; echo n > u/new/dir/n; rm -r u/usr/lib; chmod 700 u/etc
`

func TestLive(t *testing.T) {
	t.Parallel()
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) { runScript(t, script) })
	}
}

var scripts = map[string]string{
	"options": `
		nope
		commit -bfoo
		commit -b
		--foo
		refs --repo
		refs --repo=nowhere
		refs --list=x
		refs -xh
		prune --depth=x
		prune --depth=99999999999
		prune --depth
		checkout --fsync=maybe x
		refs
		log --help
		commit -h
		--help
		diff --owner-uid=0x10 --repo=nowhere
		init --repo=x/y/z
		! mkdir empty; : > file
		--repo=empty refs
		--repo=file refs
	`,
	"init and config": `
		init --repo=r --mode=foo
		init --repo=r --collection-id=foo
		init --repo=r --mode=archive --collection-id=org.example.Test
		! cat r/config; stat -c '%n %a' r r/*
		init --repo=r --mode=bare
		init --repo r2 --mode bare-user-only
		config --repo=r
		config --repo=r get
		config --repo=r get foo
		config --repo=r get foo.bar
		config --repo=r get core.bar
		config --repo=r get core.mode
		config --repo=r get core.collection-id extra
		config --repo=r frob core.mode
		config --repo=r set core.x
		config --repo=r set core.x 'a  b;c'
		config --repo=r set core.y ' lead \ back'
		config --repo=r get core.y
		config --repo=r get core.x
		config --repo=r set --group 'remote "a.b"' url http://a
		config --repo=r get --group 'remote "a.b"' url
		config --repo=r unset core.x
		config --repo=r unset core.x
		config --repo=r unset none.x
		config --repo=r get core.x
		config --repo=r set --group g
		config --repo=r unset
	`,
	"objects": tree + `
		init --repo=r --mode=archive
		--repo=r commit -b main -s 'first one' -m 'body\nwith two lines' --timestamp=@1000000000 t --add-metadata-string=version=1.0 --add-metadata=n='uint32 5' --add-metadata=l='[1,2]' --add-detached-metadata-string=sig=x
		--repo=r commit -b main --timestamp=@1000000001 --tree=dir=u --owner-uid=7 --owner-gid=8 --no-xattrs
		commit --repo=r -b os/x --orphan --timestamp=@5 u
		--repo=r log main
		--repo=r log --raw main
		--repo=r log os/x
		--repo=r show main
		--repo=r show main^
		--repo=r show --raw main^
		--repo=r show -B main^
		--repo=r show --print-metadata-key=version main^
		--repo=r show --print-metadata-key=n main^
		--repo=r show -B --print-metadata-key=n main^
		--repo=r show --print-metadata-key=l main^
		--repo=r show --print-metadata-key=none main^
		--repo=r show --print-detached-metadata-key=sig main^
		--repo=r show --print-detached-metadata-key=sig main
		--repo=r show --print-sizes main
		--repo=r show --print-related main
		+ --repo=r show 438802d990f25270d36f902bc9ce9d0737b88f9ae0b41ed59ec9e47c28523e0a
		--repo=r show 446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488
		--repo=r show
		--repo=r ls
		--repo=r ls main
		--repo=r ls -R main
		--repo=r ls -RCX main^
		--repo=r ls -d main^ /usr /bin
		--repo=r ls --nul-filenames-only -R main
		--repo=r ls main /none
		--repo=r ls main etc/conf/x
		--repo=r ls main usr/bin /etc
		--repo=r ls none
		--repo=r cat main
		--repo=r cat main /etc/conf etc/conf
		--repo=r cat main /usr/bin/two
		--repo=r cat main /usr
		--repo=r cat main /none
		--repo=r cat main^ /bin/one
		--repo=r cat main /etc/conf/x
		--repo=r diff main
		--repo=r diff main^ main
		--repo=r diff --stats main
		--repo=r diff --stats --fs-diff main^ main
		--repo=r diff main^ ./t
		--repo=r diff main ./u
		--repo=r diff --owner-uid=7 --owner-gid=8 main ./u
		~ --repo=r diff ./t ./u
		~ --repo=r diff ./t main
		--repo=r diff main /nowhere
		--repo=r diff
		--repo=r rev-parse main main^
		--repo=r rev-parse main^^
		--repo=r rev-parse none
		--repo=r rev-parse 'fo!o'
		--repo=r rev-parse none:none
		--repo=r rev-parse
		--repo=r rev-parse -S
		--repo=r rev-parse -S main
		--repo=r rev-parse
		--repo=r reset main main^
		--repo=r reset none main
		--repo=r reset main
		--repo=r rev-parse main
		checksum t/etc/conf
		checksum --ignore-xattrs t/etc/conf
		checksum t/usr/lib
		checksum t/bin
		checksum t/none
		checksum --ignore-xattrs t/none
		checksum
	`,
	"commit": tree + `
		init --repo=r --mode=bare-user
		--repo=r commit t
		--repo=r commit -b x nowhere
		--repo=r commit -b x --tree=foo
		--repo=r commit -b x --tree=foo=bar
		--repo=r commit -b x --parent=zz t
		--repo=r commit -b x --keep-metadata=a t
		--repo=r commit -b x --add-metadata-string=a t
		--repo=r commit -b x --timestamp=nonsense t
		--repo=r commit -b x --add-metadata-string==a t
		--repo=r commit -b x --canonical-permissions --owner-uid=1 t
		--repo=r commit -b x --timestamp='October 25 1985' t
		--repo=r commit -b x --timestamp='2005-10-29 12:43:29 +0000' --skip-if-unchanged t
		--repo=r commit -b x --timestamp=@7 --table-output u --bind-ref=a --bind-ref=z
		--repo=r commit -b x --timestamp=@8 --canonical-permissions --no-bindings u
		--repo=r commit -b x --timestamp=@9 --tree=ref=x^ --tree=dir=t --mode-ro-executables --keep-metadata=ostree.ref-binding
		! printf '=384 /usr/bin/one\n2048 /etc/conf\n' > so; printf '/empty\n' > sk; printf '/nope\n' > sk2; printf 'bad\n' > so2; printf '1 /nope\n' > so3
		--repo=r commit -b y --timestamp=@10 --statoverride=so --skip-list=sk t
		--repo=r commit -b y --timestamp=@11 --skip-list=sk2 t
		--repo=r commit -b y --timestamp=@11 --statoverride=so2 t
		--repo=r commit -b y --timestamp=@11 --statoverride=so3 t
		--repo=r ls -RC y
		+ --repo=r commit -b z --base=y --timestamp=@12 --tree=dir=u --skip-list=sk
		+ --repo=r commit -b y --timestamp=@12 --base=y t/usr
		--repo=r ls -R y
		! tar -C t -cf t.tar .; gzip -k t.tar
		--repo=r commit -b tar --timestamp=@13 --tree=tar=t.tar
		--repo=r commit -b tar --timestamp=@14 --tree=tar=t.tar.gz --tar-pathname-filter='usr/,opt/' --tar-autocreate-parents
		--repo=r ls -R tar
		--repo=r commit -b tar --timestamp=@15 --tree=tar=nowhere.tar
		+ --repo=r commit -b k --bootable --timestamp=@16 t
		! mkdir -p t/usr/lib/modules/6.1; echo k > t/usr/lib/modules/6.1/vmlinuz; echo i > t/usr/lib/modules/6.1/initramfs.img
		--repo=r commit -b k --bootable --timestamp=@16 --no-bindings t
		~ --repo=r refs
		--repo=r fsck -q
		! printf 'edited subject\n\nline\n# no\nend\n\n' > msg; printf '#!/bin/sh\ncat msg > "$1"\n' > ed; chmod +x ed
		--repo=r commit -b file --timestamp=@17 -F msg u
		--repo=r commit -b file --timestamp=@17 -F nowhere u
		--repo=r show file
	`,
	"refs": tree + `
		init --repo=r --mode=archive
		--repo=r commit -b a --timestamp=@1 t
		--repo=r commit -b foo/b --timestamp=@2 t
		--repo=r commit -b foo/c --timestamp=@3 t
		--repo=r refs --create=foo/d a
		--repo=r refs --create=foo/d a
		--repo=r refs --create=foo/d foo/c --force
		--repo=r refs --create=o:x/y a
		~ --repo=r refs
		~ --repo=r refs foo
		~ --repo=r refs --list foo
		~ --repo=r refs o:
		--repo=r refs a
		--repo=r refs none
		--repo=r refs --list o:x
		--repo=r refs '!'
		--repo=r refs --create=. a
		--repo=r refs --create=new none
		--repo=r refs --create=new
		--repo=r refs --create=new a foo/b
		+ --repo=r refs --create=foo a
		--repo=r refs -A --create=al a
		--repo=r refs -A
		--repo=r refs -A --create=al foo/b
		--repo=r refs -A
		--repo=r refs -A --create=bl none
		--repo=r refs -A --create=o:bl a
		--repo=r refs --delete foo/b
		--repo=r refs --delete
		--repo=r refs --delete al
		--repo=r refs --delete foo
		~ --repo=r refs
		~ --repo=r refs -c
		init --repo=c --mode=archive --collection-id=org.example.A
		--repo=c commit -b a --timestamp=@1 t
		--repo=c refs -c --create=org.example.B:b a
		--repo=c refs -c --create=nope:b a
		~ --repo=c refs -c
		--repo=c refs -c org.example.B
		--repo=c refs -c --delete org.example.B
		--repo=c refs -c
		--repo=c show --print-metadata-key=ostree.collection-binding a
	`,
	"prune and fsck": tree + `
		init --repo=r --mode=bare-user
		--repo=r fsck
		--repo=r commit -b a --timestamp=@1000000000 t
		--repo=r commit -b a --timestamp=@1100000000 u
		--repo=r commit -b a --timestamp=@1200000000 --tree=ref=a^
		--repo=r commit -b b --timestamp=@1000000000 --tree=ref=a
		--repo=r commit -b b --timestamp=@1200000000 --tree=ref=a --add-metadata-string=a=b
		--repo=r fsck
		--repo=r fsck -q
		--repo=r prune
		--repo=r prune --no-prune --refs-only --depth=0
		--repo=r prune --retain-branch-depth=a --depth=0
		--repo=r prune --retain-branch-depth=a=x --depth=0
		--repo=r prune --keep-younger-than=nonsense
		--repo=r prune --only-branch=none --depth=0
		--repo=r prune --no-prune --only-branch=b --depth=0
		--repo=r prune --only-branch=b --depth=0
		--repo=r prune --no-prune --keep-younger-than='2005-01-01 00:00:00 +0000'
		--repo=r prune --commit-only --refs-only --depth=1
		--repo=r prune --refs-only --depth=0
		--repo=r log a
		--repo=r fsck
		--repo=r fsck --verify-back-refs -q
		--repo=r refs --create=c a
		2 --repo=r fsck --verify-bindings -q
		--repo=r refs --delete c
		! f=$(ls r/objects/*/*.file | head -1); echo x >> $f
		2 --repo=r fsck -q
		! f=$(ls r/objects/*/*.file | tail -1); rm $f
		2 --repo=r fsck -q --delete
		2 --repo=r fsck -q
		--repo=r prune --delete-commit=0000000000000000000000000000000000000000000000000000000000000000
	`,
	"checkout and export": tree + `
		init --repo=r --mode=bare-user
		--repo=r commit -b m --timestamp=@1 t
		--repo=r commit -b n --timestamp=@1 u
		--repo=r checkout
		--repo=r checkout none
		--repo=r checkout -U m
		--repo=r checkout -U m
		! ls -lnR --time-style=+%s m > ls; find m | sort > list
		--repo=r checkout -U -H m h
		--repo=r checkout -H m h2
		--repo=r checkout -U -C m c
		--repo=r checkout -U --union n m
		--repo=r diff m ./m
		--repo=r checkout -U --union --union-add n m
		--repo=r checkout -U --union-identical n m
		--repo=r checkout -U -H --union-identical n m
		--repo=r checkout -U --union-add n m
		--repo=r checkout -U --subpath=/usr/bin m s
		--repo=r checkout -U --subpath=/none m s2
		--repo=r checkout -U --subpath=/none --allow-noent m s2
		--repo=r checkout -U --subpath=/etc/conf m s3
		! ls s s3; printf 'm\0/etc\0n\0/new\0' > pairs
		--repo=r checkout -U --union --from-file=pairs many
		! ls -R many
		--repo=r checkout --selinux-prefix=x m q
		! printf '/usr/\n' > skip
		--repo=r checkout -U --skip-list=skip m k
		! test ! -e k/usr; test -e k/etc
		--repo=r checkout -H -C m q
		--repo=r export m -o out.tar
		! tar --full-time -tvf out.tar > list
		= --repo=r export --no-xattrs --subpath=usr --prefix=x/ m -o out.tar
		! tar --full-time -tvf out.tar > list
		= --repo=r export m
		--repo=r export
		2 --repo=r export none
		2 --repo=r export --subpath=/none m
	`,
}

func TestLiveHelp(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(*side) {})
	for _, v := range verbs() {
		if slices.Contains([]string{"admin", "trivial-httpd", "static-delta", "sign"}, v.name) {
			continue
		}
		want, got := real.run(t, v.name, "--help"), ours.run(t, v.name, "--help")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ostree %s --help (-real +ours):\n%s", v.name, diff)
		}
	}
}

// TestSplitWords keeps the scripts honest.
func TestSplitWords(t *testing.T) {
	t.Parallel()
	got := splitWords("a 'b c' --x='d e' ''")
	if want := []string{"a", "b c", "--x=d e", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
