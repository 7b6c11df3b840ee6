package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/deletion"
)

// attemptProperty is the application property in which an Attempt travels, as JSON.
const attemptProperty = "hsmsweep-attempt"

// attemptVersion changes when a worker could misread what another one wrote. Workers of several versions share a queue while a release
// is rolled out, or back: see shared.
const attemptVersion = 1

// shared are the members that mean the same in every version: what it takes to let a request wait for a worker that knows the others, and
// to tell of its end if none comes.
var shared = []string{"version", "requestId", "parent", "lineage", "hop", "deletes", "polls", "requestedAt", "startedAt", "giveUpAt", "due", "why", "setbacks", "failures"}

// mostCounted is beyond what a request can do in a lifetime.
const mostCounted = 1 << 30

// An Attempt is all that is known of a request between two hops. Whatever must be bounded is bounded by what stands here:
// the broker's delivery count begins anew with each successor and only counts crashes.
type Attempt struct {
	Version     int       `json:"version"`
	RequestID   string    `json:"requestId"`
	Parent      string    `json:"parent,omitzero"` // request id of the selector, or of the array of events, that it came of
	Lineage     string    `json:"lineage"`         // what all ids of this request derive from
	Hop         int       `json:"hop"`             // 0 for the first message
	Deletes     int       `json:"deletes,omitzero"`
	Polls       int       `json:"polls,omitzero"`
	RequestedAt time.Time `json:"requestedAt"`        // when the first message entered the queue
	StartedAt   time.Time `json:"startedAt,omitzero"` // when the first DELETE was sent
	GiveUpAt    time.Time `json:"giveUpAt"`
	Due         time.Time `json:"due,omitzero"`      // ARM is not asked before
	Why         Reason    `json:"why,omitzero"`      // it is parked
	Promised    bool      `json:"promised,omitzero"` // Due is its turn to ask ARM, see pace

	Operation *deletion.Operation `json:"operation,omitzero"` // under way at ARM; nil: the next question is the DELETE
	Endpoint  string              `json:"endpoint,omitzero"`  // the connection's private endpoint, where a guard asked for a read
	Selection *Selection          `json:"selection,omitzero"` // of a selector
	Verifying *End                `json:"verifying,omitzero"` // reached, and published once the connection is read back and gone
	End       *End                `json:"end,omitzero"`       // reached, and only to be published any more

	Setbacks    int       `json:"setbacks,omitzero"` // steps in a row without progress: the exponent of the delay
	Panics      int       `json:"panics,omitzero"`
	Failures    int       `json:"failures,omitzero"` // deliveries of earlier messages that nobody settled, since the last step that came through
	DeniedSince time.Time `json:"deniedSince,omitzero"`
	LastError   string    `json:"lastError,omitzero"` // for the event of a request that times out

	Unknown jsontext.Value `json:",embed"` // members of a later release; of another version all that are not shared
}

// foreign tells whether the state is of a version that this worker does not understand.
func (a Attempt) foreign() bool { return a.Version != attemptVersion }

// newAttempt begins a lineage.
func newAttempt(requestID string, sequenceNumber int64, enqueued, now time.Time, giveUpAfter time.Duration) Attempt {
	return Attempt{
		Version:     attemptVersion,
		RequestID:   requestID,
		Lineage:     compact(requestID, 80) + "@" + strconv.FormatInt(sequenceNumber, 10),
		RequestedAt: enqueued,
		GiveUpAt:    now.Add(giveUpAfter),
	}
}

// eventID is the same whatever the end: a worker that lost its lock unawares may reach another end than its successor, and
// the first one counts.
func (a Attempt) eventID() string { return a.Lineage + "/end" }

// messageID is the same on every repeat of a hop, so that the broker drops the repeat, and new on the next hop, so that it
// does not drop that. The first message of a request that came of another one is known by its lineage.
func (a Attempt) messageID() string {
	if a.Hop == 0 {
		return a.Lineage
	}
	return a.Lineage + "/" + strconv.Itoa(a.Hop)
}

// longestLineage, in characters, leaves room for a hop, or an end, in an id.
const longestLineage = 101

// compact keeps an id within n characters: its readable beginning and a hash of the whole. Service Bus takes 128, and counts
// as .NET does, in UTF-16.
func compact(id string, n int) string {
	characters := utf16.Encode([]rune(id))
	if len(characters) <= n {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	hash := hex.EncodeToString(sum[:8])
	beginning := strings.TrimRight(string(utf16.Decode(characters[:n-1-len(hash)])), "\uFFFD") // half a character
	return beginning + "~" + hash
}

// cut shortens a text to about n bytes without splitting a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

func (a Attempt) encode() (string, error) {
	text, err := json.Marshal(a, jsontext.AllowInvalidUTF8(true))
	return string(text), err
}

// decodeAttempt reads what another replica, perhaps of another version, or a stranger wrote.
func decodeAttempt(text string) (Attempt, error) {
	a, err := unmarshalAttempt([]byte(text))
	if err != nil {
		return Attempt{}, fmt.Errorf("property %s cannot be read: %w", attemptProperty, err)
	}
	switch {
	case a.Version < 1:
		return Attempt{}, fmt.Errorf("property %s has version %d; the first is 1", attemptProperty, a.Version)
	case a.Hop < 0 || a.Hop == 0 && a.Parent == "" || min(a.Deletes, a.Polls, a.Setbacks, a.Panics, a.Failures) < 0 || max(a.Hop, a.Deletes, a.Polls, a.Setbacks, a.Panics, a.Failures) > mostCounted:
		return Attempt{}, fmt.Errorf("property %s has counts that no worker writes", attemptProperty)
	case a.RequestID == "" || a.Lineage == "" || utf8.RuneCountInString(a.Lineage) > longestLineage:
		return Attempt{}, fmt.Errorf("property %s names no request", attemptProperty)
	case a.GiveUpAt.IsZero():
		return Attempt{}, fmt.Errorf("property %s has no time to give up at", attemptProperty)
	}
	times := []time.Time{a.RequestedAt, a.StartedAt, a.GiveUpAt, a.Due, a.DeniedSince}
	for _, e := range []*End{a.End, a.Verifying} {
		if e == nil {
			continue
		}
		times = append(times, e.At)
		if eventTypes[e.Outcome] == "" {
			return Attempt{}, fmt.Errorf("property %s has an unknown end", attemptProperty)
		}
	}
	for _, t := range times {
		if year := t.UTC().Year(); !t.IsZero() && (year < 1970 || year > 9000) {
			return Attempt{}, fmt.Errorf("property %s has a time in the year %d", attemptProperty, year)
		}
	}
	if op := a.Operation; op != nil {
		switch op.Protocol {
		case deletion.Location, deletion.AsyncOperation, deletion.ReadBack:
		default:
			return Attempt{}, fmt.Errorf("property %s has an operation of an unknown protocol", attemptProperty)
		}
	}
	if s := a.Selection; s != nil && (s.Made < len(s.Found) || s.Made > mostCounted || len(s.Found) > mostFound) {
		return Attempt{}, fmt.Errorf("property %s has a selection that no worker writes", attemptProperty)
	}
	if e := a.Verifying; e != nil && !e.gone() {
		return Attempt{}, fmt.Errorf("property %s verifies what is no deletion", attemptProperty)
	}
	return a, nil
}

// unmarshalAttempt takes an Attempt of this version whole, and of another one what is shared.
func unmarshalAttempt(text []byte) (a Attempt, err error) {
	err = json.Unmarshal(text, &a)
	if err == nil && !a.foreign() {
		return a, nil
	}
	var members map[string]jsontext.Value
	if json.Unmarshal(text, &members) != nil || string(members["version"]) == strconv.Itoa(attemptVersion) {
		return Attempt{}, err
	}
	known := make(map[string]jsontext.Value, len(shared))
	for _, name := range shared {
		if value, ok := members[name]; ok {
			known[name] = value
			delete(members, name)
		}
	}
	understood, err := json.Marshal(known)
	if err != nil {
		return Attempt{}, err
	}
	a = Attempt{}
	if err := json.Unmarshal(understood, &a); err != nil {
		return Attempt{}, err
	}
	a.Unknown, err = json.Marshal(members, json.Deterministic(true))
	return a, err
}

// largest is an Attempt as large as one can become, for measuring. A selector has no operation, and a list of what it found instead.
func largest(a Attempt, selects bool) Attempt {
	a.Operation = &deletion.Operation{URL: strings.Repeat("x", deletion.LongestOperationURL), Protocol: deletion.AsyncOperation}
	if selects {
		a.Operation.URL = strings.Repeat("x", longestFound)
	}
	a.Verifying = &End{Message: strings.Repeat("x", 3<<10)}
	a.LastError = strings.Repeat("x", 3<<10)
	a.End = &End{Message: strings.Repeat("x", 3<<10)}
	return a
}
