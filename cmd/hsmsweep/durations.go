package main

import (
	"fmt"
	"strings"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// forever is longer than anything waits; Service Bus writes it as its longest duration.
const forever = broker.Century

const day = 24 * time.Hour

// duration reads one of Service Bus's settings; 0 if it cannot be read.
func duration(text *string) time.Duration {
	d, _ := broker.ParseDuration(value(text))
	return d
}

// brief is a duration as people write it.
func brief(d time.Duration) string {
	switch {
	case d >= forever:
		return "forever"
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	text := d.Round(time.Millisecond).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// iso is a duration as Azure's settings have it.
func iso(d time.Duration) string {
	if d%day == 0 {
		return fmt.Sprintf("P%dD", d/day)
	}
	return "PT" + strings.ToUpper(brief(d.Round(time.Second)))
}
