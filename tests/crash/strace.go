// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// traced are the calls that can change a folder, or tell what a descriptor is.
const traced = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate," +
	"link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,mknod,mknodat," +
	"fsync,fdatasync,syncfs,sync,sync_file_range,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr," +
	"chmod,fchmod,fchmodat,?fchmodat2,copy_file_range,sendfile,splice,ioctl"

// call is one finished system call.
type call struct {
	name  string
	args  []string // as strace prints them
	ret   string
	start int // number of calls that had finished when this one began
}

// failed tells whether the call returned an error.
func (c call) failed() bool { return strings.HasPrefix(c.ret, "-") || strings.HasPrefix(c.ret, "?") }

// readTrace reads the output of strace -f -y -xx.
func readTrace(r io.Reader) ([]call, error) {
	var out []call
	type begun struct {
		text  string
		start int
	}
	pending := map[string]begun{}
	in := bufio.NewReaderSize(r, 1<<20)
	for line := 1; ; line++ {
		text, err := in.ReadString('\n')
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		pid, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
		rest = strings.TrimSpace(rest)
		if !ok || strings.HasPrefix(rest, "+++") || strings.HasPrefix(rest, "---") {
			continue
		}
		start := len(out)
		if before, ok := strings.CutSuffix(rest, "<unfinished ...>"); ok {
			before = strings.TrimSpace(before)
			// The number is free before the call is reported as finished, and may be
			// another file's by then.
			if strings.HasPrefix(before, "close(") {
				out = append(out, call{name: "close", args: []string{strings.TrimPrefix(before, "close(")}, ret: "0", start: start})
			}
			pending[pid] = begun{before, start}
			continue
		}
		if strings.HasPrefix(rest, "<... ") {
			_, after, _ := strings.Cut(rest, " resumed>")
			b := pending[pid]
			delete(pending, pid)
			if strings.HasPrefix(b.text, "close(") {
				continue
			}
			rest, start = b.text+after, b.start
		}
		c, err := parseCall(rest)
		if err != nil {
			return nil, fmt.Errorf("trace, line %d: %w: %.200s", line, err, rest)
		}
		c.start = start
		out = append(out, c)
	}
}

func parseCall(text string) (call, error) {
	name, rest, ok := strings.Cut(text, "(")
	if !ok {
		return call{}, fmt.Errorf("no call")
	}
	c := call{name: name}
	depth, from, quoted := 0, 0, false
	for i := range len(rest) {
		switch b := rest[i]; {
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '(' || b == '[' || b == '{':
			depth++
		case b == ']' || b == '}':
			depth--
		case b == ',' && depth == 0:
			c.args = append(c.args, strings.TrimSpace(rest[from:i]))
			from = i + 1
		case b == ')' && depth > 0:
			depth--
		case b == ')':
			c.args = append(c.args, strings.TrimSpace(rest[from:i]))
			_, ret, ok := strings.Cut(rest[i:], "= ")
			if !ok {
				return c, fmt.Errorf("no result")
			}
			c.ret = strings.TrimSpace(ret)
			return c, nil
		}
	}
	return c, fmt.Errorf("no end")
}

// text decodes a quoted argument.
func text(arg string) (string, error) {
	if strings.HasSuffix(arg, "...") {
		return "", fmt.Errorf("strace shortened %.60s", arg)
	}
	arg = strings.Trim(arg, `"`)
	b, err := hex.DecodeString(strings.ReplaceAll(arg, `\x`, ""))
	if err != nil {
		return "", fmt.Errorf("decode %.60s: %w", arg, err)
	}
	return string(b), nil
}

// descriptor splits 5<PATH>(deleted) into number and path.
func descriptor(arg string) (fd int, path string, err error) {
	num, rest, ok := strings.Cut(arg, "<")
	if num == "AT_FDCWD" {
		num = "-100"
	}
	if fd, err = strconv.Atoi(num); err != nil || !ok {
		return fd, "", err
	}
	path, _, _ = strings.Cut(rest, ">")
	if path, err = text(path); err != nil {
		return fd, "", nil // a socket, a pipe
	}
	return fd, path, nil
}
