// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

func remoteAddCookie() *verb {
	return &verb{
		name: "add-cookie", args: "NAME DOMAIN PATH COOKIE_NAME VALUE", summary: "Add a cookie to remote",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 5 {
				return c.usageError("NAME, DOMAIN, PATH, COOKIE_NAME and VALUE must be specified")
			}
			return pull.AddCookie(c.repo, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4])
		},
	}
}

func remoteDeleteCookie() *verb {
	return &verb{
		name: "delete-cookie", args: "NAME DOMAIN PATH COOKIE_NAME", summary: "Remove one cookie from remote",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 4 {
				return c.usageError("NAME, DOMAIN, PATH and COOKIE_NAME must be specified")
			}
			err := pull.DeleteCookie(c.repo, c.args[0], c.args[1], c.args[2], c.args[3])
			if errors.Is(err, pull.ErrNoCookie) {
				return failf("Cookie not found in jar")
			}
			return err
		},
	}
}

func remoteListCookies() *verb {
	return &verb{
		name: "list-cookies", args: "NAME", summary: "Show remote repository cookies",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 1 {
				return c.usageError("NAME must be specified")
			}
			all, err := pull.Cookies(c.repo, c.args[0])
			for _, k := range all {
				secure := "FALSE"
				if k.Secure {
					secure = "TRUE"
				}
				c.printf("--\nDomain: %s\nPath: %s\nName: %s\nSecure: %s\n", k.Domain, k.Path, k.Name, secure)
				c.printf("Expires: %s\nValue: %s\n", time.Unix(k.Expires, 0).UTC().Format(time.DateTime+" +0000"), k.Value)
			}
			return err
		},
	}
}
