// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

func alternative(name, link, path string, priority int) Recipe {
	return alternatives([4]string{name, link, path, strconv.Itoa(priority)})
}

// alternatives registers {name, link, path, priority} when the package comes
// and forgets it when the package goes for good.
func alternatives(list ...[4]string) Recipe {
	var post, preun strings.Builder
	for _, a := range list {
		fmt.Fprintf(&post, "update-alternatives --install %s %s %s %s\n", a[1], a[0], a[2], a[3])
		fmt.Fprintf(&preun, "  update-alternatives --remove %s %s\n", a[0], a[2])
	}
	r := Recipe{
		Tags: []rpmspec.Tag{
			{Name: "Requires(post)", Value: "alternatives"},
			{Name: "Requires(preun)", Value: "alternatives"},
		},
		Scriptlets: []rpmspec.Scriptlet{
			{Kind: "%post", Body: post.String() + "exit 0\n"},
			{Kind: "%preun", Body: "if [ $1 -eq 0 ]; then\n" + preun.String() + "fi\nexit 0\n"},
		},
		Ghosts: map[string]Attr{},
	}
	return r
}
