package admin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// formatTime writes a time in units of 100 ns as the service does; never is its earliest.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00"
	}
	return t.UTC().Format("2006-01-02T15:04:05.9999999Z")
}

// forever is the service's longest duration.
const forever = "P10675199DT2H48M5.4775807S"

// formatDuration writes an ISO 8601 duration; 0 is forever.
func formatDuration(d time.Duration) string {
	if d <= 0 || d >= broker.Century {
		return forever
	}
	const day = 24 * time.Hour
	date, clock := "P", ""
	if d >= day {
		date += fmt.Sprintf("%dD", d/day)
	}
	if h := d % day / time.Hour; h > 0 {
		clock += fmt.Sprintf("%dH", h)
	}
	if m := d % time.Hour / time.Minute; m > 0 {
		clock += fmt.Sprintf("%dM", m)
	}
	if s := d % time.Minute; s > 0 {
		clock += strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%09d", s/time.Second, s%time.Second), "0"), ".") + "S"
	}
	if clock != "" {
		date += "T"
	}
	return date + clock
}

// parseDuration reads an ISO 8601 duration above 0; forever is broker.Century.
func parseDuration(text string) (time.Duration, error) {
	d, ok := broker.ParseDuration(text)
	if !ok || d <= 0 {
		return 0, errors.New("it must be a duration of days, hours, minutes and seconds such as P1DT12H or PT30S")
	}
	return d, nil
}

// megabytes is a size in whole megabytes; 0 is the largest there is.
func megabytes(size int64) int64 {
	if size == 0 {
		return maxMegabytes
	}
	return min((size-1)>>20+1, maxMegabytes)
}

func parseNumber(text string, most int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("it must be a number from 1 to %d", most)
	}
	return n, nil
}

// parseBool reads a boolean of XML Schema.
func parseBool(text string) (bool, error) {
	switch strings.TrimSpace(text) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, errors.New("it must be true or false")
}
