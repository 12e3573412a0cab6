// SPDX-License-Identifier: Apache-2.0

// Package selinux tells the security context that an SELinux policy gives to the
// files of a tree. It reads the texts that libselinux reads, file_contexts and
// its companions, and answers as libselinux does; it needs neither the library nor
// a kernel with SELinux. The forms are described in docs/formats/selinux.md.
//
// The rules are those of libselinux 3.4: file_contexts(5), selabel_file(5).
package selinux
