// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"os"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.InMemory(m)) }
