// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"fmt"

	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// FromManifest fills the options that a treefile decides about, reading the
// files it refers to. The caller adds Version, Owned, WriteRPMDB and the rest.
func FromManifest(m *treefile.Manifest) (Options, error) {
	o := Options{
		MutateOSRelease: m.MutateOSRelease, Units: m.Units, DefaultTarget: m.DefaultTarget, TmpIsDir: m.TmpIsDir,
		MachineIDCompat: m.MachineidCompat, OptUsrlocal: string(m.OptUsrlocal), ReadonlyExecutables: m.ReadonlyExecutables,
		KernelInOstreeBoot: m.BootLocation == treefile.BootNew, Cliwrap: m.Cliwrap, CliwrapBinaries: m.CliwrapBinaries,
		RefuseDevices: !m.IgnoreDevices,
		NoKernel:      m.Container, NoInitramfs: m.NoInitramfs, InitramfsArgs: m.InitramfsArgs, EtcGroupMembers: m.EtcGroupMembers,
		RemoveFiles: m.RemoveFiles,
	}
	for _, rm := range m.RemoveFromPackages {
		o.RemoveFromPackages = append(o.RemoveFromPackages, RemoveFrom{Package: rm.Package, Patterns: rm.Patterns})
	}
	for _, f := range m.AddFiles {
		e, ok := m.External(treefile.RoleAddFile, f.Source)
		if !ok {
			return Options{}, fmt.Errorf("add %s: the treefile was loaded without it", f.Source)
		}
		data, err := m.ReadExternal(e)
		if err != nil {
			return Options{}, err
		}
		o.AddFiles = append(o.AddFiles, AddFile{Dest: f.Dest, Data: data, Executable: e.Executable})
	}
	for i, body := range m.Postprocess {
		o.Scripts = append(o.Scripts, Script{Name: fmt.Sprintf("postprocess script %d (%s)", i+1, m.Where("postprocess", i)), Body: []byte(body)})
	}
	for _, e := range m.Externals {
		if e.Role != treefile.RoleFinalize {
			continue
		}
		data, err := m.ReadExternal(e)
		if err != nil {
			return Options{}, err
		}
		o.Finalize = append(o.Finalize, Script{Name: e.Path, Body: data})
	}
	flat, err := m.Flat(false)
	if err != nil {
		return Options{}, err
	}
	if o.Treefile, err = flat.Encode(treefile.JSON, treefile.EncodeOptions{}); err != nil {
		return Options{}, err
	}
	if m.PostprocessScript != "" {
		e, ok := m.External(treefile.RolePostprocess, m.PostprocessScript)
		if !ok {
			return Options{}, fmt.Errorf("run %s: the treefile was loaded without it", m.PostprocessScript)
		}
		data, err := m.ReadExternal(e)
		if err != nil {
			return Options{}, err
		}
		o.Scripts = append(o.Scripts, Script{Name: m.PostprocessScript, Body: data})
	}
	return o, nil
}
