// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
)

type compsXML struct {
	Groups []struct {
		ID          string    `xml:"id"`
		Name        []langXML `xml:"name"`
		Description []langXML `xml:"description"`
		Default     string    `xml:"default"`
		UserVisible string    `xml:"uservisible"`
		Packages    []struct {
			Type     string `xml:"type,attr"`
			Requires string `xml:"requires,attr"`
			Name     string `xml:",chardata"`
		} `xml:"packagelist>packagereq"`
	} `xml:"group"`
	Environments []struct {
		ID          string    `xml:"id"`
		Name        []langXML `xml:"name"`
		Description []langXML `xml:"description"`
		Groups      []string  `xml:"grouplist>groupid"`
		Options     []string  `xml:"optionlist>groupid"`
	} `xml:"environment"`
}

type langXML struct {
	Lang string `xml:"http://www.w3.org/XML/1998/namespace lang,attr"`
	Text string `xml:",chardata"`
}

func plain(texts []langXML) string {
	for _, t := range texts {
		if t.Lang == "" {
			return t.Text
		}
	}
	return ""
}

// Comps reads the package groups. A repository without groups gives an error that wraps [ErrNoList].
func (m *Metadata) Comps(ctx context.Context) (*Comps, error) {
	data, err := m.readText(ctx, "group")
	if errors.Is(err, ErrNoList) || errors.Is(err, fetch.ErrNotFound) {
		// Older tools list the compressed form apart, and mirrors may hold that alone.
		data, err = m.readText(ctx, "group_gz")
	}
	if err == nil {
		var c *Comps
		if c, err = ParseComps(data); err == nil {
			return c, nil
		}
	}
	if errors.Is(err, ErrNoList) {
		err = fmt.Errorf("list group: %w", ErrNoList)
	}
	return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
}

// ParseComps reads the text of a comps.xml. An error wraps [ErrSyntax].
func ParseComps(data []byte) (*Comps, error) {
	var x compsXML
	if err := xml.Unmarshal(data, &x); err != nil {
		return nil, fmt.Errorf("read groups: %w: %w", ErrSyntax, err)
	}
	c := &Comps{}
	for _, g := range x.Groups {
		group := Group{ID: strings.TrimSpace(g.ID), Name: plain(g.Name), Description: plain(g.Description)}
		group.Default = strings.TrimSpace(g.Default) == "true"
		group.UserVisible = strings.TrimSpace(g.UserVisible) != "false"
		for _, p := range g.Packages {
			group.add(p.Type, strings.TrimSpace(p.Name), p.Requires)
		}
		c.Groups = append(c.Groups, group)
	}
	for _, e := range x.Environments {
		c.Environments = append(c.Environments, Environment{
			ID: strings.TrimSpace(e.ID), Name: plain(e.Name), Description: plain(e.Description),
			Groups: trimAll(e.Groups), Options: trimAll(e.Options),
		})
	}
	return c, nil
}

// add sorts a package by its type; one without type is mandatory, as in DNF.
func (g *Group) add(kind, name, requires string) {
	switch kind {
	case "default":
		g.Defaults = append(g.Defaults, name)
	case "optional":
		g.Optional = append(g.Optional, name)
	case "conditional":
		g.Conditional = append(g.Conditional, ConditionalPackage{name, requires})
	default:
		g.Mandatory = append(g.Mandatory, name)
	}
}

func trimAll(list []string) []string {
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
