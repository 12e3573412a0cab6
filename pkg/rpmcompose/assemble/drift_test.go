// SPDX-License-Identifier: Apache-2.0

package assemble_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
)

func TestCheckDrift(t *testing.T) {
	t.Parallel()
	before := assemble.Accounts{
		Passwd: "root:x:0:0::/:/bin/sh\nmail:x:8:12::/:/x\ngone:x:500:500::/:/x\ntoor:x:0:0::/:/x\n", Group: "root:x:0:\nmail:x:12:\nwheel:x:10:a,b\n",
	}
	for _, tc := range []struct {
		name          string
		passwd, group string
		want          []string
	}{
		{"the same", before.Passwd, before.Group, nil},
		{"new and gone, other fields", "root:x:0:0:new:/root:/x\nmail:x:8:12::/:/x\nnew:x:501:501::/:/x\ntoor:x:0:0::/:/x\n", "root:x:0:\nmail:x:12:\nwheel:x:10:a,c\n", nil},
		{"other ids", "root:x:0:0::/:/bin/sh\nmail:x:9:12::/:/x\n", "root:x:0:\nmail:x:13:\n",
			[]string{"user mail: uid was 8 and is 9", "group mail: gid was 12 and is 13"}},
		{"other group of a user", "mail:x:8:13::/:/x\n", "", []string{"user mail: gid was 12 and is 13"}},
		{"a number of another", "root:x:0:0::/:/bin/sh\nnew:x:500:500::/:/x\n", "", []string{"user new: its uid 500 was that of gone"}},
		{"one more root", "root:x:0:0::/:/bin/sh\nevil:x:0:0::/:/x\n", "", []string{"user evil: its uid 0 was that of root, toor"}},
		{"two that changed places", "mail:x:500:12::/:/x\ngone:x:8:500::/:/x\n", "",
			[]string{"user mail: uid was 8 and is 500", "user gone: uid was 500 and is 8"}},
		{"broken lines", "mail\nmail:x\n:::\n", "\n", nil},
	} {
		err := assemble.CheckDrift(before, assemble.Accounts{Passwd: tc.passwd, Group: tc.group})
		var drift *assemble.DriftError
		if !errors.As(err, &drift) {
			if err != nil || tc.want != nil {
				t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, drift.Changes); diff != "" || !errors.Is(err, assemble.ErrDrift) {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if !strings.Contains(err.Error(), drift.Changes[0]) {
			t.Errorf("message %v", err)
		}
	}
	if err := assemble.CheckDrift(assemble.Accounts{}, before); err != nil {
		t.Errorf("without a tree before: %v", err)
	}
}
