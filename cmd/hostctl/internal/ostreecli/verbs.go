// SPDX-License-Identifier: Apache-2.0

package ostreecli

// verbs lists the commands in the order of --help.
func verbs() []*verb {
	return []*verb{
		adminVerb(),
		catVerb(),
		checkoutVerb(),
		checksumVerb(),
		commitVerb(),
		configVerb(),
		diffVerb(),
		exportVerb(),
		findRemotesVerb(),
		createUSBVerb(),
		fsckVerb(),
		gpgSignVerb(),
		initVerb(),
		logVerb(),
		lsVerb(),
		pruneVerb(),
		pullLocalVerb(),
		pullVerb(),
		refsVerb(),
		remoteVerb(),
		resetVerb(),
		revParseVerb(),
		signVerb(),
		showVerb(),
		staticDeltaVerb(),
		summaryVerb(),
		trivialHTTPD(),
	}
}
