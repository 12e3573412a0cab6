// SPDX-License-Identifier: Apache-2.0

package solve

import "slices"

// CompatibleArches lists the architectures whose packages a machine can run,
// the preferred first; it is what [Problem.Arches] takes. Source: rpm's
// arch_compat, without the architectures that no distribution builds any more.
func CompatibleArches(arch string) []string {
	x86 := []string{"i686", "i586", "i486", "i386", "noarch"}
	levels := []string{"x86_64_v4", "x86_64_v3", "x86_64_v2", "x86_64"}
	if i := slices.Index(levels, arch); i >= 0 {
		return slices.Concat(levels[i:], x86)
	}
	if i := slices.Index(x86, arch); i >= 0 {
		return x86[i:]
	}
	switch arch {
	case "s390x":
		return []string{"s390x", "s390", "noarch"}
	case "ppc64":
		return []string{"ppc64", "ppc", "noarch"}
	case "armv7hl":
		return []string{"armv7hl", "armv6hl", "noarch"}
	}
	return []string{arch, "noarch"}
}

// preferredColor is the word size that is meant where none is named; 0 if all
// are alike.
func (p *Problem) preferredColor() int {
	if len(p.Arches) == 0 || p.Arches[0] == "*" {
		return 0
	}
	return color(p.Arches[0])
}

// lesser reports whether v is of the other word size than the preferred one.
func (pl *pool) lesser(v int32) bool {
	want := pl.p.preferredColor()
	return want != 0 && color(pl.pkg(v).NEVRA.Arch)&want == 0
}

// notLesser leaves out what a name also has for the preferred word size. That
// build may turn out to be impossible: then that is what has to be explained,
// for nobody who asks for a package means its 32-bit twin.
func (pl *pool) notLesser(list []int32) []int32 {
	if !slices.ContainsFunc(list, func(v int32) bool { return !pl.lesser(v) }) {
		return list
	}
	return slices.DeleteFunc(list, pl.lesser)
}

// twinDoes reports whether v is a build for the other word size of a package of
// which a build for the preferred one does what makes v wanted. Weak
// dependencies never put such a build in.
func (pl *pool) twinDoes(v int32, does func(twin int32) bool) bool {
	return pl.lesser(v) && slices.ContainsFunc(pl.names[pl.pkg(v).NEVRA.Name], func(o int32) bool {
		return !pl.lesser(o) && does(o)
	})
}
