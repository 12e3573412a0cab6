// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseDate reads what date -d and ostree accept in common: @SECONDS, dates as
// 2015-10-29, 10/29/2015, 29 Oct 2015 or October 29 2015, times as 12:43:29.5 or 3pm,
// zones as Z, UTC or +02:00, and moves as yesterday, last week, 3 days ago. What is not
// given is that of now; with a date, midnight in the local zone.
func parseDate(s string, now time.Time) (time.Time, error) {
	if secs, ok := strings.CutPrefix(strings.TrimSpace(s), "@"); ok {
		whole, _, _ := strings.Cut(secs, ".")
		n, err := strconv.ParseInt(whole, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("parse date %q: %w", s, err)
		}
		return time.Unix(n, 0), nil
	}
	p := &dateParser{words: dateWords(s), loc: now.Location(), now: now}
	if err := p.parse(); err != nil {
		return time.Time{}, fmt.Errorf("parse date %q: %w", s, err)
	}
	return p.result(), nil
}

// dateWords splits at spaces, commas and between a number and letters, keeping the
// signs that belong to a number.
func dateWords(s string) []string {
	var words []string
	kind, from := byte(' '), 0
	flush := func(to int) {
		if kind != ' ' && to > from {
			words = append(words, strings.ToLower(s[from:to]))
		}
	}
	for i := 0; i <= len(s); i++ {
		k := byte(' ')
		if i < len(s) {
			k = dateClass(s[i], kind)
		}
		if i == len(s) || k != kind || k == 's' {
			flush(i)
			kind, from = k, i
			if k == 's' {
				kind = '0'
			}
		}
	}
	return words
}

// dateClass is 0 for what numbers consist of, a for letters, s for a sign that
// begins a number; before is the class of the character in front.
func dateClass(c, before byte) byte {
	switch {
	case c >= '0' && c <= '9' || (c == ':' || c == '/' || c == '.') && before == '0':
		return '0'
	case c == '-' && before == '0':
		return '0'
	case c == '+' || c == '-':
		return 's'
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return 'a'
	case c == ' ' || c == '\t' || c == '\n' || c == ',':
		return ' '
	}
	return '?'
}

type dateParser struct {
	words            []string
	now              time.Time
	loc              *time.Location
	year, month, day int
	clock            time.Duration
	hasDate, hasTime bool
	hasZone, hasYear bool // hasYear: four digits that follow are a time
	weekday          int  // 1 for Sunday; 0 for none
	weekdayStep      int
	months, days     int
	shift            time.Duration
}

func (p *dateParser) result() time.Time {
	y, m, d := p.now.Date()
	if p.hasDate {
		y, m, d = p.year, time.Month(p.month), p.day
	}
	clock := p.clock
	if !p.hasTime && !p.hasDate && p.weekday == 0 {
		n := p.now
		clock = time.Duration(n.Hour())*time.Hour + time.Duration(n.Minute())*time.Minute + time.Duration(n.Second())*time.Second
	}
	t := time.Date(y, m+time.Month(p.months), d+p.days, 0, 0, 0, 0, p.loc)
	if p.weekday > 0 && !p.hasDate {
		ahead := (p.weekday - 1 - int(t.Weekday()) + 7) % 7
		step := p.weekdayStep
		if step > 0 && ahead > 0 {
			step--
		}
		t = t.AddDate(0, 0, ahead+7*step)
	}
	secs := int(clock / time.Second)
	t = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, secs, int(clock%time.Second), p.loc)
	return t.Add(p.shift)
}

func (p *dateParser) parse() error {
	if len(p.words) == 0 {
		p.hasDate = true
		p.year, p.month, p.day = dateOf(p.now)
	}
	for len(p.words) > 0 {
		n, err := p.step()
		if err != nil {
			return err
		}
		p.words = p.words[n:]
	}
	return nil
}

func dateOf(t time.Time) (year, month, day int) {
	y, m, d := t.Date()
	return y, int(m), d
}

// step reads one item and gives the number of words it took.
func (p *dateParser) step() (int, error) {
	w := p.words[0]
	if c := w[0]; c >= '0' && c <= '9' || c == '+' || c == '-' {
		return p.number(w)
	}
	if m := monthOf(w); m > 0 {
		return p.monthName(m)
	}
	if d := weekdayOf(w); d > 0 {
		p.weekday = d
		return 1, nil
	}
	switch w {
	case "t": // between date and time
		return 1, nil
	case "z", "utc", "gmt", "ut":
		return 1, p.zone("+00:00")
	case "now":
		return 1, nil
	case "today":
		return 1, nil
	case "yesterday":
		p.days--
		return 1, nil
	case "tomorrow":
		p.days++
		return 1, nil
	case "last", "this", "next":
		return p.relative(map[string]int{"last": -1, "this": 0, "next": 1}[w], 1)
	}
	if n, ok := unitOf(w); ok && n != 0 {
		return p.relative(1, 0)
	}
	return 0, fmt.Errorf("unknown word %q", w)
}

// number reads what begins with a digit or a sign.
func (p *dateParser) number(w string) (int, error) {
	signed := w[0] == '+' || w[0] == '-'
	switch {
	case signed && p.hasTime && (strings.Contains(w, ":") || len(w) == 5) || signed && p.hasTime && len(w) == 3 && !p.unitAt(1):
		return 1, p.zone(w)
	case strings.Contains(w, ":") && !signed:
		return p.time(w)
	case strings.Contains(w[1:], "-"):
		return 1, p.numericDate(w, "-", 0, 1, 2)
	case strings.Contains(w, "/"):
		return 1, p.numericDate(w, "/", 2, 0, 1)
	}
	n, err := strconv.Atoi(w)
	if err != nil {
		return 0, err
	}
	switch {
	case p.unitAt(1):
		return p.relative(n, 1)
	case len(p.words) > 1 && (p.words[1] == "am" || p.words[1] == "pm"):
		return p.time(w)
	case len(p.words) > 1 && monthOf(p.words[1]) > 0:
		return p.dayMonth(n)
	case len(w) == 8 && !p.hasDate:
		return 1, p.setDate(n/10000, n/100%100, n%100)
	case len(w) == 4 && p.hasDate && !p.hasTime && p.hasYear:
		return 1, p.setClock(n/100, n%100, 0)
	case len(w) == 4 && p.hasDate:
		p.year = n
		return 1, nil
	}
	return 0, fmt.Errorf("unexpected number %q", w)
}

func (p *dateParser) unitAt(i int) bool {
	if i >= len(p.words) {
		return false
	}
	n, ok := unitOf(p.words[i])
	return ok && n != 0
}

func (p *dateParser) setDate(y, m, d int) error {
	if p.hasDate {
		return fmt.Errorf("two dates")
	}
	if t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC); int(t.Month()) != m || t.Day() != d {
		return fmt.Errorf("no such day: %d-%d-%d", y, m, d)
	}
	p.year, p.month, p.day, p.hasDate = y, m, d, true
	return nil
}

// numericDate reads a date of numbers; y, m and d are their places.
func (p *dateParser) numericDate(w, sep string, y, m, d int) error {
	parts := strings.Split(w, sep)
	if len(parts) != 3 {
		return fmt.Errorf("unknown date %q", w)
	}
	var n [3]int
	for i, s := range parts {
		v, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		n[i] = v
	}
	p.hasYear = true
	return p.setDate(n[y], n[m], n[d])
}

// monthName reads "October 29 2015", "Oct 29" and "Oct 29 12:00:00 UTC 2015".
func (p *dateParser) monthName(m int) (int, error) {
	if len(p.words) < 2 {
		return 0, fmt.Errorf("no day after the month")
	}
	d, err := strconv.Atoi(strings.TrimRight(p.words[1], "."))
	if err != nil {
		return 0, err
	}
	return p.withYear(2, m, d)
}

// dayMonth reads "29 October 2015".
func (p *dateParser) dayMonth(d int) (int, error) {
	return p.withYear(2, monthOf(p.words[1]), d)
}

func (p *dateParser) withYear(used, m, d int) (int, error) {
	year := p.now.Year()
	if len(p.words) > used && len(p.words[used]) == 4 {
		if y, err := strconv.Atoi(p.words[used]); err == nil {
			year, p.hasYear = y, true
			used++
		}
	}
	return used, p.setDate(year, m, d)
}

func (p *dateParser) time(w string) (int, error) {
	if i := strings.LastIndexByte(w, '-'); i > 0 {
		if err := p.zone(w[i:]); err != nil {
			return 0, err
		}
		w = w[:i]
	}
	parts := strings.Split(w, ":")
	var n [3]int
	var frac time.Duration
	for i, s := range parts {
		if i > 2 {
			return 0, fmt.Errorf("unknown time %q", w)
		}
		whole, rest, found := strings.Cut(s, ".")
		if found && i == 2 {
			f, err := strconv.ParseFloat("0."+rest, 64)
			if err != nil {
				return 0, err
			}
			frac = time.Duration(f * float64(time.Second))
		}
		v, err := strconv.Atoi(whole)
		if err != nil || whole != s && i < 2 {
			return 0, fmt.Errorf("unknown time %q", w)
		}
		n[i] = v
	}
	used := 1
	if len(p.words) > 1 && (p.words[1] == "am" || p.words[1] == "pm") {
		if n[0] < 1 || n[0] > 12 {
			return 0, fmt.Errorf("unknown time %q", w)
		}
		n[0] %= 12
		if p.words[1] == "pm" {
			n[0] += 12
		}
		used = 2
	}
	err := p.setClock(n[0], n[1], n[2])
	p.clock += frac
	return used, err
}

func (p *dateParser) setClock(h, m, s int) error {
	if p.hasTime || h > 24 || m > 59 || s > 60 {
		return fmt.Errorf("unknown time %d:%d:%d", h, m, s)
	}
	p.hasTime = true
	p.clock = time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	return nil
}

// zone reads +HH:MM, +HHMM and +HH.
func (p *dateParser) zone(w string) error {
	digits := strings.ReplaceAll(w[1:], ":", "")
	n, err := strconv.Atoi(digits)
	if err != nil || p.hasZone {
		return fmt.Errorf("unknown zone %q", w)
	}
	if len(digits) <= 2 {
		n *= 100
	}
	secs := n/100*3600 + n%100*60
	if w[0] == '-' {
		secs = -secs
	}
	p.loc, p.hasZone = time.FixedZone("", secs), true
	return nil
}

// relative reads [N] UNIT [ago], and last or next WEEKDAY; at is the place of the
// unit.
func (p *dateParser) relative(n, at int) (int, error) {
	if at >= len(p.words) {
		return 0, fmt.Errorf("no unit after %q", p.words[0])
	}
	used := at + 1
	if d := weekdayOf(p.words[at]); d > 0 {
		p.weekday, p.weekdayStep = d, n
		return used, nil
	}
	if used < len(p.words) && p.words[used] == "ago" {
		n = -n
		used++
	}
	unit, ok := unitOf(p.words[at])
	if !ok {
		return 0, fmt.Errorf("unknown unit %q", p.words[at])
	}
	switch unit {
	case unitYear:
		p.months += 12 * n
	case unitMonth:
		p.months += n
	case unitWeek, unitFortnight, unitDay:
		p.days += n * map[int]int{unitDay: 1, unitWeek: 7, unitFortnight: 14}[unit]
	case unitHour:
		p.shift += time.Duration(n) * time.Hour
	case unitMinute:
		p.shift += time.Duration(n) * time.Minute
	case unitSecond:
		p.shift += time.Duration(n) * time.Second
	}
	return used, nil
}
