// SPDX-License-Identifier: Apache-2.0

package container

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Conditions of reading an image.
var (
	// ErrImage: the image is malformed, or a digest or a size is not as recorded.
	ErrImage = errors.New("malformed image")
	// ErrNotCommit: a good image, but not that of a commit alone.
	ErrNotCommit = errors.New("image does not hold just a commit")
	// ErrNoImage: the layout has no image of that name, or several and none was named.
	ErrNoImage = errors.New("no such image")
)

// Media types. Source: the OCI image specification, version 1.1.
const (
	typeIndex     = "application/vnd.oci.image.index.v1+json"
	typeManifest  = "application/vnd.oci.image.manifest.v1+json"
	typeConfig    = "application/vnd.oci.image.config.v1+json"
	typeLayer     = "application/vnd.oci.image.layer.v1.tar"
	typeLayerGzip = typeLayer + "+gzip"
	typeLayerZstd = typeLayer + "+zstd"
)

// Labels and annotations. Source: ostree-ext, except those of org.opencontainers.
const (
	labelCommit      = "ostree.commit"
	labelFinalDiffID = "ostree.final-diffid" // the last layer that belongs to the commit
	labelBootable    = "ostree.bootable"
	labelLinux       = "ostree.linux"
	labelBootc       = "containers.bootc"
	labelVersion     = "version"
	labelOCIVersion  = "org.opencontainers.image.version"
	labelRefName     = "org.opencontainers.image.ref.name"
	labelComponents  = "ostree.components" // of a layer: packages, separated by commas
)

const (
	layoutVersion = "1.0.0"
	maxJSON       = 4 << 20 // index, manifest, configuration
	maxLayers     = 512     // of an image that is read
)

// Descriptor names a blob.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"` // sha256:HEX
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Manifest lists the blobs of an image.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// RunConfig says how a container of the image runs.
type RunConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

// Config is an image's configuration.
type Config struct {
	Created      string    `json:"created,omitempty"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       RunConfig `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []History `json:"history,omitempty"`
}

// History tells where a layer comes from.
type History struct {
	Created   string `json:"created,omitempty"`
	CreatedBy string `json:"created_by,omitempty"`
}

// ParseManifest reads an image manifest, such as that of a previous build.
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := decode("manifest", data, &m); err != nil {
		return nil, err
	}
	if m.SchemaVersion != 2 || (m.MediaType != "" && m.MediaType != typeManifest) {
		return nil, fmt.Errorf("%w: manifest of type %q, schema %d; only OCI image manifests are read", ErrImage, clip(m.MediaType), m.SchemaVersion)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: manifest with %d layers", ErrImage, len(m.Layers))
	}
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if err := d.check(); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// ParseRunConfig reads the part "config" of an image configuration.
func ParseRunConfig(data []byte) (RunConfig, error) {
	var c RunConfig
	return c, decode("configuration", data, &c)
}

func parseConfig(data []byte) (*Config, error) {
	var c Config
	if err := decode("configuration", data, &c); err != nil {
		return nil, err
	}
	if c.RootFS.Type != "layers" {
		return nil, fmt.Errorf("%w: rootfs of type %q", ErrImage, clip(c.RootFS.Type))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

func decode(what string, data []byte, v any) error {
	if len(data) > maxJSON {
		return fmt.Errorf("%w: %s of %d bytes", ErrImage, what, len(data))
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrImage, what, err)
	}
	return nil
}

func (d Descriptor) check() error {
	if d.Size < 0 {
		return fmt.Errorf("%w: blob %s of %d bytes", ErrImage, clip(d.Digest), d.Size)
	}
	return checkDigest(d.Digest)
}

// checkDigest keeps names that are no digest out of paths.
func checkDigest(s string) error {
	rest, ok := strings.CutPrefix(s, "sha256:")
	raw, err := hex.DecodeString(rest)
	if !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(rest) != rest {
		return fmt.Errorf("%w: digest %q: want sha256 and 64 hexadecimal digits", ErrImage, clip(s))
	}
	return nil
}

func digestOf(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return digestOf(sum[:])
}

// blobName is a blob's place in a layout; the digest was checked.
func blobName(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
