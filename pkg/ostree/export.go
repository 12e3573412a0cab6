// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// ExportOptions say what ExportTar writes; the zero value is the whole tree with
// its attributes.
type ExportOptions struct {
	// Subpath is a directory of the commit; "" for the whole tree.
	Subpath string
	// Prefix stands before every name, as it is: "usr/" puts the tree below usr.
	Prefix string
	// SkipXattrs leaves extended attributes out; the format is then GNU tar throughout.
	SkipXattrs bool
	// Padded fills the archive up to a multiple of 10240 bytes, as libostree does on
	// standard output but not in a file.
	Padded bool
}

const (
	tarRecord = 10240 // archives end at a multiple of it
	tarXattr  = "SCHILY.xattr."
)

// ExportTar writes the tree of a commit as a tar archive to w, directories before
// what is in them and files before subdirectories. All times are that of the commit,
// owners are numbers. The format is GNU tar; entries with extended attributes carry
// them in pax headers of the form SCHILY.xattr.NAME, which GNU tar and libarchive
// read. Files of the same content are written each: libostree makes no links either.
// The content of files is streamed, not verified.
func (r *Repo) ExportTar(ctx context.Context, commit Checksum, w io.Writer, o ExportOptions) error {
	if err := r.exportTar(ctx, commit, w, o); err != nil {
		return fmt.Errorf("export %s: %w", commit, err)
	}
	return nil
}

func (r *Repo) exportTar(ctx context.Context, commit Checksum, w io.Writer, o ExportOptions) error {
	c, err := r.LoadCommit(commit)
	if err != nil {
		return err
	}
	top, err := r.Lookup(commit, o.Subpath)
	if err != nil {
		return err
	}
	if !top.IsDir {
		return fmt.Errorf("%s: %w", clip(top.Path), ErrNotDir)
	}
	count := &countWriter{w: w}
	e := &exporter{r: r, o: o, top: top.Path, mtime: time.Unix(int64(min(c.Timestamp, math.MaxInt64)), 0), tw: tar.NewWriter(count)}
	if err := r.WalkFrom(ctx, top, e.entry); err != nil {
		return err
	}
	if err := e.tw.Close(); err != nil {
		return err
	}
	if rest := count.n % tarRecord; o.Padded && rest > 0 {
		_, err = count.Write(make([]byte, tarRecord-rest))
	}
	return err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type exporter struct {
	r     *Repo
	o     ExportOptions
	top   string
	mtime time.Time
	tw    *tar.Writer
}

func (e *exporter) entry(n Node) error {
	if n.IsDir {
		info, err := e.r.Info(n)
		if err != nil {
			return err
		}
		return e.header(info)
	}
	h, size, rc, err := e.r.OpenFile(n.File)
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := e.header(NodeInfo{Node: n, FileHeader: h, Size: size}); err != nil {
		return err
	}
	if !h.IsRegular() {
		return nil
	}
	buf := e.r.pools.buffer()
	defer e.r.pools.buffers.Put(buf)
	// One byte more than declared would be an error of the archive.
	if _, err := io.CopyBuffer(struct{ io.Writer }{e.tw}, struct{ io.Reader }{rc}, (*buf)[:bufSize]); err != nil {
		return fmt.Errorf("%s: %w", clip(n.Path), err)
	}
	return nil
}

func (e *exporter) header(n NodeInfo) error {
	h := &tar.Header{
		Name: e.name(n), Mode: int64(n.Mode & 0o7777), Uid: int(n.UID), Gid: int(n.GID),
		ModTime: e.mtime, Format: tar.FormatGNU, Typeflag: tar.TypeReg, Size: n.Size,
	}
	switch {
	case n.IsDir:
		h.Typeflag = tar.TypeDir
	case n.IsSymlink():
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
	}
	if !e.o.SkipXattrs && len(n.Xattrs) > 0 {
		h.Format = tar.FormatPAX
		h.PAXRecords = map[string]string{}
		for _, x := range n.Xattrs {
			h.PAXRecords[tarXattr+x.Name] = string(x.Value)
		}
	}
	if err := e.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", clip(n.Path), err)
	}
	return nil
}

// name gives the path below the exported directory, after the prefix.
func (e *exporter) name(n NodeInfo) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(n.Path, strings.TrimSuffix(e.top, "/")), "/")
	name := e.o.Prefix + rel
	if name == "" {
		name = "."
	}
	if n.IsDir && !strings.HasSuffix(name, "/") {
		name += "/"
	}
	return name
}
