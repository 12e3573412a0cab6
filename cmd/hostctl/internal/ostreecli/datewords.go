// SPDX-License-Identifier: Apache-2.0

package ostreecli

import "strings"

// Units of relative dates; 0 is none.
const (
	unitYear = iota + 1
	unitMonth
	unitFortnight
	unitWeek
	unitDay
	unitHour
	unitMinute
	unitSecond
)

func unitOf(w string) (int, bool) {
	switch strings.TrimSuffix(w, "s") {
	case "year":
		return unitYear, true
	case "month":
		return unitMonth, true
	case "fortnight":
		return unitFortnight, true
	case "week":
		return unitWeek, true
	case "day":
		return unitDay, true
	case "hour":
		return unitHour, true
	case "minute", "min":
		return unitMinute, true
	case "second", "sec":
		return unitSecond, true
	}
	return 0, false
}

// monthOf knows full names and those of three letters; 0 is none.
func monthOf(w string) int {
	for i, name := range []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"} {
		if w == name || w == name[:3] || w == "sept" && i == 8 {
			return i + 1
		}
	}
	return 0
}

// weekdayOf counts from 1 for Sunday; 0 is none.
func weekdayOf(w string) int {
	for i, name := range []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"} {
		if w == name || w == name[:3] {
			return i + 1
		}
	}
	return 0
}
