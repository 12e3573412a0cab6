// SPDX-License-Identifier: Apache-2.0

// Package container turns commits into OCI images and back, in the form that
// ostree-ext defined and that bootc and rpm-ostree read (docs/formats/container.md).
//
//	Encapsulate  commit -> layers, configuration, manifest -> an image layout
//	Open         an image layout, as a folder or an archive; nothing of it is trusted
//	Import       image -> commit, every object verified
//
// An image's tree is an ordinary container file system: each file is a hard link to
// the object below sysroot/ostree/repo/objects, whose repository has the mode
// bare-split-xattrs. The first layer has the commit and all directories, each further
// layer the files of some packages. The same commit with the same options gives the
// same image, byte for byte.
package container
