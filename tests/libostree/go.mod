module github.com/hostctl/hostctl/tests/libostree

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/hostctl/hostctl v0.0.0
	github.com/ostreedev/ostree-go v0.0.0-20210805093236-719684c64e4f
	pgregory.net/rapid v1.3.0
)

require (
	github.com/ProtonMail/go-crypto v1.5.2 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/therootcompany/xz v1.0.1 // indirect
	golang.org/x/crypto v0.41.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/hostctl/hostctl => ../..
