// SPDX-License-Identifier: Apache-2.0

package importer_test

import (
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func TestPolicyStoreIsInEtc(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/var/lib/selinux":                                   "",
		"/var/lib/selinux/targeted":                          "",
		"/var/lib/selinux/targeted/active/modules/100/x/cil": "usr/etc/selinux/targeted/active/modules/100/x/cil",
		"/etc/selinux/targeted/contexts/files/file_contexts": "usr/etc/selinux/targeted/contexts/files/file_contexts",
		"/var/lib/selinuxes/x":                               "",
		"/usr/share/selinux/packages/targeted/container.pp":  "usr/share/selinux/packages/targeted/container.pp",
	} {
		p, err := importer.Place(&rpm.File{Path: path, Mode: 0o100644}, importer.Filter{})
		if err != nil || p.Path != want || (p.Kind == importer.InTree) != (want != "") {
			t.Errorf("%s: %+v, %v; want %q", path, p, err, want)
		}
	}
}
