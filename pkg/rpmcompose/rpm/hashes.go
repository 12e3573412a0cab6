// SPDX-License-Identifier: Apache-2.0

package rpm

// The hash functions that headers may name; crypto.Hash finds only those that are linked.
import (
	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
)
