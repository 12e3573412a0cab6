// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"crypto/sha1"
	"encoding/base32"
	"fmt"
	"strings"
)

// zbase32 is the alphabet of the Web Key Directory.
const zbase32 = "ybndrfg8ejkmcpqxot1uwisza345h769"

// UpdateURLs gives where a Web Key Directory would have the key of an e-mail
// address, by the advanced and by the direct method
// (draft-koch-openpgp-webkey-service). ok is false for what is no address.
func UpdateURLs(address string) (advanced, direct string, ok bool) {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || domain == "" || strings.ContainsAny(domain, "@/ ") {
		return "", "", false
	}
	sum := sha1.Sum([]byte(strings.ToLower(local)))
	tail := "hu/" + base32.NewEncoding(zbase32).EncodeToString(sum[:]) + "?l=" + escape(local)
	return "https://openpgpkey." + domain + "/.well-known/openpgpkey/" + strings.ToLower(domain) + "/" + tail,
		"https://" + domain + "/.well-known/openpgpkey/" + tail, true
}

// escape is the percent encoding of a URL's query.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
