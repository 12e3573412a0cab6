// SPDX-License-Identifier: Apache-2.0

// Package rpm reads RPM package files (format 3, 4 and 6) and the header blobs of an RPM database.
//
// A package file is a 96 byte lead, a signature header, a main header and a compressed cpio payload.
// [ReadPackage] parses everything before the payload and leaves the reader at its first byte;
// [Package.Payload] then streams the files and checks sizes and digests on the way; [VerifyPackage]
// checks digests and OpenPGP signatures over the whole file in one pass.
//
// Every parser here takes hostile input: counts and sizes are bounded before anything is allocated, and
// an error names the offset or the tag at which the input is wrong.
package rpm
