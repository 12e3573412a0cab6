// SPDX-License-Identifier: Apache-2.0

// Package gvariant reads and writes the GVariant serialisation in normal form.
//
// A [Value] is a type string together with its serialised bytes. Values are
// immutable: readers give views into the bytes as they were received, so what
// was hashed or signed can be stored or hashed again without re-encoding.
// [Parse] accepts normal form only: padding must be zero, framing offsets must be
// in order and complete, strings must be valid UTF-8 with their terminator. For
// such input, taking a value apart and building it again gives the same bytes.
//
// Integers are serialised little-endian. Formats that store big-endian numbers
// inside u and t fields (as OSTree does) use the constructors and readers whose
// names end in BE.
//
// Constructors never panic on data: a constructor that gets something it cannot
// represent (a string with NUL, an element of another type) gives a Value whose
// Err is set, and everything built from it carries the same error. Check
// [Value.Err] once, at the end.
//
// Format: https://developer.gnome.org/documentation/specifications/gvariant-specification-1.0.html
package gvariant
