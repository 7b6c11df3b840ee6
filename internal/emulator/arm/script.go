package arm

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script is how one connection answers the DELETEs it receives, one after the other. After the last answer, and
// without a script, a DELETE is answered 200 and the connection is gone. DELETEs of a connection that is gone (204) or
// whose operation runs (202) use up no answer.
type Script struct {
	Deletes []Answer `json:"deletes,omitzero"`
}

// Answer is one scripted answer. Exactly one of Status, Hang and Cut is set.
type Answer struct {
	// Status is 200, 204, 202 (an operation starts) or an error, 400 to 599.
	Status int `json:"status,omitzero"`
	// RetryAfter is the header's value as sent; "date+5s" sends the HTTP date five seconds (any Go duration) from now.
	// On a 202 it stands in for the operation's.
	RetryAfter string `json:"retryAfter,omitzero"`
	// Code and Message are those of the CloudError; both have defaults by status.
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
	// Body replaces the CloudError; it may be empty.
	Body *string `json:"body,omitzero"`
	// Hang gives no answer until the client gives up.
	Hang bool `json:"hang,omitzero"`
	// Cut closes the connection (over HTTP/2, the stream) without an answer.
	Cut bool `json:"cut,omitzero"`
	// Applied says that the connection is deleted all the same; for errors, Hang and Cut.
	Applied bool `json:"applied,omitzero"`
	// Operation is what a 202 starts; nil means the zero Operation.
	Operation *Operation `json:"operation,omitzero"`
}

// The headers that may tell where an operation is polled.
const (
	HeaderLocation          = "Location"
	HeaderAsyncOperation    = "Azure-AsyncOperation"
	HeaderOperationLocation = "Operation-Location"
	HeaderNone              = "none"
)

// Operation is the course of a delete that was answered 202. The zero value is the recorded one: a Location, no
// Retry-After, and 204 at the end.
type Operation struct {
	// Header names the header with the URL to poll: Location (the default), Azure-AsyncOperation, Operation-Location,
	// or none, in which case reads of the connection count as polls.
	Header string `json:"header,omitzero"`
	// Polls is the number of running answers. The operation is over once they are given.
	Polls int `json:"polls,omitzero"`
	// Seconds, instead of Polls, ends the operation so long after its start.
	Seconds float64 `json:"seconds,omitzero"`
	// RetryAfter goes with the 202 and with each running answer; as in Answer.
	RetryAfter string `json:"retryAfter,omitzero"`
	// End is the last answer: "204" (the default for Location), "200", "200 connection" (with the connection as body),
	// an error status, or the status word of a 200 body: "Succeeded" (the default otherwise), "Failed", "Canceled".
	// Failed, Canceled and errors other than 404 leave the connection in place.
	End string `json:"end,omitzero"`
	// Code and Message are those of a failed end.
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
	// URL replaces the URL to poll.
	URL string `json:"url,omitzero"`
	// Keeps leaves the connection in place whatever the end.
	Keeps bool `json:"keeps,omitzero"`
	// PollErrors are answers (errors, Hang, Cut) to polls before the running ones.
	PollErrors []Answer `json:"pollErrors,omitzero"`
}

func (s Script) validate() error {
	for i, answer := range s.Deletes {
		if err := answer.validate(); err != nil {
			return fmt.Errorf("deletes[%d]: %w", i, err)
		}
	}
	return nil
}

func (a Answer) validate() error {
	isError := a.Status >= 400 && a.Status <= 599
	success := slices.Contains([]int{http.StatusOK, http.StatusAccepted, http.StatusNoContent}, a.Status)
	switch {
	case count(a.Status != 0, a.Hang, a.Cut) != 1:
		return errors.New("want exactly one of status, hang and cut")
	case a.Status != 0 && !isError && !success:
		return fmt.Errorf("status %d: want 200, 202, 204 or 400 to 599", a.Status)
	case a.Operation != nil && a.Status != http.StatusAccepted:
		return errors.New("operation: only with status 202")
	case a.Applied && success:
		return errors.New("applied: only with an error status, hang or cut")
	case !isError && (a.Code != "" || a.Message != "" || a.Body != nil):
		return errors.New("code, message and body: only with an error status")
	case a.Body != nil && (a.Code != "" || a.Message != ""):
		return errors.New("body: not beside code and message, which it replaces")
	}
	if err := validateRetryAfter(a.RetryAfter); err != nil {
		return err
	}
	if a.Operation == nil {
		return nil
	}
	if err := a.Operation.validate(); err != nil {
		return fmt.Errorf("operation: %w", err)
	}
	return nil
}

func (o *Operation) validate() error {
	const longest = 1e9 // seconds; a time.Duration holds nine times as many
	switch {
	case !slices.Contains([]string{"", HeaderLocation, HeaderAsyncOperation, HeaderOperationLocation, HeaderNone}, o.Header):
		return fmt.Errorf("header %q: want Location, Azure-AsyncOperation, Operation-Location or none", o.Header)
	case o.Polls < 0 || o.Seconds < 0 || o.Seconds > longest:
		return errors.New("polls and seconds: want a number from 0, of seconds up to 1e9")
	case o.Polls > 0 && o.Seconds > 0:
		return errors.New("polls and seconds: want only one of them")
	case o.URL != "" && o.Header == HeaderNone:
		return errors.New("url: not with header none")
	case !validEnd(o.End):
		return fmt.Errorf("end %q: want 204, 200, 200 connection, 400 to 599, Succeeded, Failed or Canceled", o.End)
	}
	if err := validateRetryAfter(o.RetryAfter); err != nil {
		return err
	}
	for i, answer := range o.PollErrors {
		if answer.Applied || answer.Status != 0 && answer.Status < 400 {
			return fmt.Errorf("pollErrors[%d]: want an error status, hang or cut, and no applied", i)
		}
		if err := answer.validate(); err != nil {
			return fmt.Errorf("pollErrors[%d]: %w", i, err)
		}
	}
	return nil
}

func validEnd(end string) bool {
	if slices.Contains([]string{"", "204", "200", "200 connection", "Succeeded", "Failed", "Canceled"}, end) {
		return true
	}
	status, err := strconv.Atoi(end)
	return err == nil && status >= 400 && status <= 599
}

// ending is the end with the default filled in.
func (o *Operation) ending() string {
	if o.Header == HeaderAsyncOperation || o.Header == HeaderOperationLocation {
		return cmp.Or(o.End, "Succeeded")
	}
	return cmp.Or(o.End, "204")
}

// keeps tells whether the connection outlives the operation.
func (o *Operation) keeps() bool {
	status, err := strconv.Atoi(o.End)
	failed := err == nil && status >= 400 && status != http.StatusNotFound
	return o.Keeps || failed || o.End == "Failed" || o.End == "Canceled"
}

const datePrefix = "date"

func validateRetryAfter(value string) error {
	if offset, ok := strings.CutPrefix(value, datePrefix); ok {
		if _, err := time.ParseDuration(offset); err != nil {
			return fmt.Errorf("retryAfter %q: want date+<duration>, such as date+5s", value)
		}
	}
	return nil
}

func count(conditions ...bool) int {
	n := 0
	for _, condition := range conditions {
		if condition {
			n++
		}
	}
	return n
}
