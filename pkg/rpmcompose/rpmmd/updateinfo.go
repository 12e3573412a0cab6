// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

type updatesXML struct {
	Updates []struct {
		Status   string `xml:"status,attr"`
		Type     string `xml:"type,attr"`
		ID       string `xml:"id"`
		Title    string `xml:"title"`
		Severity string `xml:"severity"`
		Issued   struct {
			Date string `xml:"date,attr"`
		} `xml:"issued"`
		Updated struct {
			Date string `xml:"date,attr"`
		} `xml:"updated"`
		Description string `xml:"description"`
		References  []struct {
			Href  string `xml:"href,attr"`
			ID    string `xml:"id,attr"`
			Title string `xml:"title,attr"`
			Type  string `xml:"type,attr"`
		} `xml:"references>reference"`
		Packages []struct {
			Name    string  `xml:"name,attr"`
			Epoch   string  `xml:"epoch,attr"`
			Version string  `xml:"version,attr"`
			Release string  `xml:"release,attr"`
			Arch    string  `xml:"arch,attr"`
			Reboot  *string `xml:"reboot_suggested"`
		} `xml:"pkglist>collection>package"`
	} `xml:"update"`
}

// Updateinfo reads the advisories. A repository without any gives an error that wraps [ErrNoList].
func (m *Metadata) Updateinfo(ctx context.Context) ([]Advisory, error) {
	data, err := m.readText(ctx, "updateinfo")
	if err != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
	}
	list, err := ParseUpdateinfo(data)
	if err != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
	}
	return list, nil
}

// ParseUpdateinfo reads the text of an updateinfo.xml. An error wraps [ErrSyntax].
func ParseUpdateinfo(data []byte) ([]Advisory, error) {
	var x updatesXML
	if err := xml.Unmarshal(data, &x); err != nil {
		return nil, fmt.Errorf("read advisories: %w: %w", ErrSyntax, err)
	}
	out := make([]Advisory, 0, len(x.Updates))
	for _, u := range x.Updates {
		a := Advisory{
			ID: strings.TrimSpace(u.ID), Type: u.Type, Status: u.Status, Severity: strings.TrimSpace(u.Severity),
			Title: strings.TrimSpace(u.Title), Description: u.Description,
			Issued: parseDate(u.Issued.Date), Updated: parseDate(u.Updated.Date),
		}
		for _, r := range u.References {
			a.References = append(a.References, Reference{Type: r.Type, ID: r.ID, Title: r.Title, URL: r.Href})
		}
		for _, p := range u.Packages {
			n := rpm.NEVRA{Name: p.Name, Arch: p.Arch, EVR: rpm.EVR{Version: p.Version, Release: p.Release}}
			if e, err := strconv.ParseUint(p.Epoch, 10, 32); err == nil && e > 0 {
				n.Epoch, n.HasEpoch = uint32(e), true
			}
			a.Packages = append(a.Packages, n)
			a.Reboot = a.Reboot || p.Reboot != nil && *p.Reboot != "0" && !strings.EqualFold(*p.Reboot, "false")
		}
		out = append(out, a)
	}
	return out, nil
}

// parseDate reads the forms that tools write; an unknown one gives the zero time.
func parseDate(s string) time.Time {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02", time.RFC3339, "2006-01-02 15:04:05 MST"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}
