// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/openpgpx"
)

// FileFlags mark the role of a file in its package.
type FileFlags uint32

// Roles of files.
const (
	FileConfig    FileFlags = 1 << 0
	FileDoc       FileFlags = 1 << 1
	FileIcon      FileFlags = 1 << 2
	FileMissingOK FileFlags = 1 << 3
	FileNoReplace FileFlags = 1 << 4
	FileSpec      FileFlags = 1 << 5
	FileGhost     FileFlags = 1 << 6
	FileLicense   FileFlags = 1 << 7
	FileReadme    FileFlags = 1 << 8
	FilePubkey    FileFlags = 1 << 11
	FileArtifact  FileFlags = 1 << 12
)

// Type and permission bits of [File.Mode], as in st_mode.
const (
	ModeTypeMask = 0o170000
	ModeSocket   = 0o140000
	ModeSymlink  = 0o120000
	ModeRegular  = 0o100000
	ModeBlock    = 0o060000
	ModeDir      = 0o040000
	ModeChar     = 0o020000
	ModeFIFO     = 0o010000
)

// File is one file, directory, link or device of a package.
type File struct {
	// Path is absolute and clean; the files of a source package have plain names.
	Path  string
	Mode  uint32 // st_mode, type bits included
	User  string
	Group string
	Size  int64
	MTime uint32
	// Link is the target of a symbolic link.
	Link string
	// Digest is the hexadecimal digest of a regular file by [Package.FileDigestHash]; "" if there is none.
	Digest string
	Flags  FileFlags
	// Caps are file capabilities in text form, such as "cap_net_raw=p".
	Caps string
	// Inode and Dev are equal for the members of a hard-link group and mean nothing else.
	Inode, Dev uint32
	// Color is 1 for 32 bit and 2 for 64 bit ELF files, 0 for others.
	Color uint32
	// Lang lists the languages, separated by "|", that the file is for.
	Lang        string
	Rdev        uint32
	VerifyFlags uint32
	// Signature is the IMA signature in binary form, nil if there is none.
	Signature []byte
	// State is the installed state, of a package from a database only: see the State constants.
	State FileState
}

// FileState says what became of a file on installation.
type FileState uint8

// States of installed files.
const (
	StateNormal       FileState = 0
	StateReplaced     FileState = 1
	StateNotInstalled FileState = 2
	StateNetShared    FileState = 3
	StateWrongColor   FileState = 4
)

// IsDir says whether f is a directory.
func (f *File) IsDir() bool { return f.Mode&ModeTypeMask == ModeDir }

// IsRegular says whether f is a regular file.
func (f *File) IsRegular() bool { return f.Mode&ModeTypeMask == ModeRegular }

// IsSymlink says whether f is a symbolic link.
func (f *File) IsSymlink() bool { return f.Mode&ModeTypeMask == ModeSymlink }

// IsGhost says whether f is owned but not in the payload.
func (f *File) IsGhost() bool { return f.Flags&FileGhost != 0 }

// FileDigestHash gives the hash function of the files' digests: MD5 where the header names none. 0 means
// an algorithm that this package does not know.
func (p *Package) FileDigestHash() crypto.Hash {
	n, ok := p.Header.Uint(TagFileDigestAlgo)
	if !ok {
		return crypto.MD5
	}
	return openpgpx.HashByID(n)
}

// Files lists the package's files in header order, which the payload's indexes refer to. The list is
// built anew on every call.
func (p *Package) Files() []File {
	paths := p.paths()
	if len(paths) == 0 {
		return nil
	}
	h := p.Header
	files := make([]File, len(paths))
	sizes := h.Uints(TagLongFileSizes)
	if sizes == nil {
		sizes = h.Uints(TagFileSizes)
	}
	modes, rdevs, mtimes := h.Uint32s(TagFileModes), h.Uint32s(TagFileRdevs), h.Uint32s(TagFileMtimes)
	flags, verify := h.Uint32s(TagFileFlags), h.Uint32s(TagFileVerifyFlags)
	devs, inodes, colors, states := h.Uint32s(TagFileDevices), h.Uint32s(TagFileInodes), h.Uint32s(TagFileColors), h.Uint32s(TagFileStates)
	digests, links := h.Strings(TagFileDigests), h.Strings(TagFileLinktos)
	users, groups := h.Strings(TagFileUserName), h.Strings(TagFileGroupName)
	langs, caps, sigs := h.Strings(TagFileLangs), h.Strings(TagFileCaps), p.fileSignatures(len(paths))
	for i := range files {
		sig, _ := hex.DecodeString(at(sigs, i))
		files[i] = File{
			Path: paths[i], Mode: at(modes, i), User: at(users, i), Group: at(groups, i),
			Size: int64(at(sizes, i)), MTime: at(mtimes, i), Link: at(links, i), Digest: at(digests, i),
			Flags: FileFlags(at(flags, i)), Caps: at(caps, i), Inode: at(inodes, i), Dev: at(devs, i),
			Color: at(colors, i), Lang: at(langs, i), Rdev: at(rdevs, i), VerifyFlags: at(verify, i),
			State: FileState(at(states, i)),
		}
		if len(sig) > 0 {
			files[i].Signature = sig
		}
	}
	return files
}

// fileSignatures gives the IMA signatures in hexadecimal. A package file has them in its signature header,
// where a list of another length than the files' says nothing.
func (p *Package) fileSignatures(files int) []string {
	if list := p.Header.Strings(TagFileSignatures); list != nil || p.Signature == nil {
		return list
	}
	list := p.Signature.Strings(SigTagFileSignatures)
	if len(list) != files {
		return nil
	}
	return list
}

func at[T any](list []T, i int) T {
	if i < len(list) {
		return list[i]
	}
	var zero T
	return zero
}

// paths joins directories and base names, or takes the full names that format 3 stores.
func (p *Package) paths() []string {
	bases := p.Header.Strings(TagBasenames)
	if bases == nil {
		return p.Header.Strings(TagOldFilenames)
	}
	dirs, indexes := p.Header.Strings(TagDirnames), p.Header.Uint32s(TagDirIndexes)
	out := make([]string, len(bases))
	for i, base := range bases {
		out[i] = dirs[indexes[i]] + base
	}
	return out
}

// checkFiles makes sure that the lists about files agree in length and that paths are clean, so that
// accessors need no error and no caller meets "..".
func (p *Package) checkFiles() error {
	h := p.Header
	n, err := h.stringCount(TagBasenames)
	if err != nil {
		return err
	}
	if n > 0 {
		if err := h.checkDirIndexes(n); err != nil {
			return err
		}
	} else if n, err = h.stringCount(TagOldFilenames); err != nil {
		return err
	}
	for _, tag := range []Tag{TagFileSizes, TagLongFileSizes, TagFileModes, TagFileRdevs, TagFileMtimes, TagFileFlags, TagFileVerifyFlags, TagFileDevices, TagFileInodes, TagFileColors, TagFileStates} {
		if err := h.checkCount(tag, n, h.numberCount); err != nil {
			return err
		}
	}
	for _, tag := range []Tag{TagFileDigests, TagFileLinktos, TagFileUserName, TagFileGroupName, TagFileLangs, TagFileCaps, TagFileSignatures} {
		if err := h.checkCount(tag, n, h.stringCount); err != nil {
			return err
		}
	}
	if n > 0 && !h.Has(TagFileModes) {
		return fmt.Errorf("read header: files without modes: %w", ErrFormat)
	}
	source := p.IsSource()
	for _, name := range p.paths() {
		if !cleanPath(name, source) {
			return fmt.Errorf("read header: file name %q: %w", name, ErrFormat)
		}
	}
	return nil
}

func (h *Header) checkDirIndexes(n int) error {
	if err := h.checkCount(TagDirIndexes, n, h.numberCount); err != nil {
		return err
	}
	dirs, err := h.stringCount(TagDirnames)
	if err != nil {
		return err
	}
	indexes := h.Uint32s(TagDirIndexes)
	if len(indexes) != n {
		return fmt.Errorf("read header: %d base names and %d directory indexes: %w", n, len(indexes), ErrFormat)
	}
	for i, d := range indexes {
		if int64(d) >= int64(dirs) {
			return fmt.Errorf("read header: file %d in directory %d of %d: %w", i, d, dirs, ErrFormat)
		}
	}
	return nil
}

// checkCount allows a list to be missing, but not to have another length than the list of names.
func (h *Header) checkCount(tag Tag, want int, count func(Tag) (int, error)) error {
	n, err := count(tag)
	if err != nil {
		return err
	}
	if n != 0 && n != want {
		return fmt.Errorf("read header: tag %d has %d values for %d files: %w", tag, n, want, ErrFormat)
	}
	return nil
}

// cleanPath says whether a file name is absolute and free of "." and ".." parts. Source packages have
// plain names.
func cleanPath(name string, source bool) bool {
	if source && !strings.HasPrefix(name, "/") {
		return name != "" && name != "." && name != ".." && !strings.Contains(name, "/")
	}
	return strings.HasPrefix(name, "/") && path.Clean(name) == name
}
