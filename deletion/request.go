package deletion

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Request asks for a connection to be deleted, or for all that a selector finds. It is what the body of a message says,
// checked.
type Request struct {
	Connection ConnectionID // zero: a selector, of Pool's connections in one of Statuses, or of those that belong to Endpoint
	Pool       *PoolID
	RequestID  string // the caller's; empty when the body has none
	// Statuses and Endpoint are guards: delete only a connection in one of these link states, and only one that still
	// belongs to this private endpoint. Empty and nil guard nothing.
	Statuses    []LinkStatus
	Endpoint    *EndpointID
	Reason      string
	RequestedBy string
	Ticket      *Ticket
	NotBefore   time.Time // zero: at once
	DryRun      bool
	Force       bool // overrides --protect-last-approved
	Reported    bool // somebody else's deletion, reported by an event: the connection is only read
}

// Selects tells whether the request is a selector, which becomes one request for each connection that it finds.
func (r Request) Selects() bool { return r.Connection == ConnectionID{} }

// A Ticket is what the request came from; it goes back with every event.
type Ticket struct {
	System string `json:"system,omitzero"`
	ID     string `json:"id,omitzero"`
	URL    string `json:"url,omitzero"`
}

// A LinkStatus is a state of a connection's private link (privateLinkServiceConnectionState.status).
type LinkStatus string

// LinkStatuses are the states that Azure documents (PrivateEndpointServiceConnectionStatus).
var LinkStatuses = []LinkStatus{"Approved", "Pending", "Rejected", "Disconnected"}

// ParseLinkStatus takes any case, as ARM does, and gives the documented spelling.
func ParseLinkStatus(s string) (LinkStatus, error) {
	for _, status := range LinkStatuses {
		if equalFold(s, string(status)) {
			return status, nil
		}
	}
	return "", fmt.Errorf("%s is not one of Approved, Pending, Rejected, Disconnected", quote(s))
}

// body is the native request as it stands in JSON.
type body struct {
	ConnectionID      string     `json:"connectionId,omitzero"`
	PrivateEndpointID string     `json:"privateEndpointId,omitzero"`
	ManagedHSMID      string     `json:"managedHsmId,omitzero"`
	Status            []string   `json:"status,omitzero"`
	RequestID         *string    `json:"requestId,omitzero"`
	Reason            string     `json:"reason,omitzero"`
	RequestedBy       string     `json:"requestedBy,omitzero"`
	Ticket            *Ticket    `json:"ticket,omitzero"`
	NotBefore         *time.Time `json:"notBefore,omitzero"`
	DryRun            bool       `json:"dryRun,omitzero"`
	Force             bool       `json:"force,omitzero"`
}

// DecodeRequest reads a native request: one JSON object and nothing after it. Unknown and repeated names are errors, for a
// misspelt guard must not be dropped in silence. Every fault found is named, in the words of the request's author. With an
// error comes what could be read all the same, so that whoever asked can be told by their own ids.
func DecodeRequest(data []byte) (Request, error) {
	var b body
	if err := json.Unmarshal(data, &b, json.RejectUnknownMembers(true)); err != nil {
		if broken := CheckJSON(data); broken != nil {
			return salvage(data), broken // the field at which decoding stopped has nothing to do with it
		}
		return salvage(data), jsonFault(data, err)
	}
	r, err := b.request()
	return r, errors.Join(b.nullFault(data), err)
}

// salvage reads the fields by which a request is known, each by itself, so that a fault in one, or in front of them, does
// not hide the rest. What it finds is only ever reported, never acted upon.
func salvage(data []byte) Request {
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var fields map[string]jsontext.Value
	_ = json.Unmarshal(data, &fields, lenient)
	var b body
	for name, into := range map[string]any{
		"connectionId": &b.ConnectionID, "requestId": &b.RequestID, "ticket": &b.Ticket, "reason": &b.Reason, "requestedBy": &b.RequestedBy,
	} {
		_ = json.Unmarshal(fields[name], into, lenient)
	}
	r, _ := b.request()
	return r
}

// Encode writes the request as a native one, for a message of its own. Reported is no part of it.
func (r Request) Encode() ([]byte, error) {
	b := body{Reason: r.Reason, RequestedBy: r.RequestedBy, Ticket: r.Ticket, DryRun: r.DryRun, Force: r.Force}
	if !r.Selects() {
		b.ConnectionID = r.Connection.String()
	}
	if r.Endpoint != nil {
		b.PrivateEndpointID = r.Endpoint.String()
	}
	if r.Pool != nil {
		b.ManagedHSMID = r.Pool.String()
	}
	for _, status := range r.Statuses {
		b.Status = append(b.Status, string(status))
	}
	if r.RequestID != "" {
		b.RequestID = &r.RequestID
	}
	if !r.NotBefore.IsZero() {
		b.NotBefore = &r.NotBefore
	}
	return json.Marshal(b)
}

// nullFault refuses a guard that is null or empty: what should have filled it in did not, and without it more is deleted. So is
// it with a connectionId beside a selector, which would then mean all that it finds.
func (b *body) nullFault(data []byte) error {
	if !bytes.Contains(data, []byte("null")) && !bytes.Contains(data, []byte(`""`)) {
		return nil // nearly always, and then the body is not decoded twice
	}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	empty := func(name string) bool { return string(fields[name]) == "null" || string(fields[name]) == `""` }
	if empty("connectionId") && b.PrivateEndpointID+b.ManagedHSMID != "" {
		return fmt.Errorf("connectionId: is %s; name the connection, or leave it out to select by what stands beside it", fields["connectionId"])
	}
	for _, guard := range []string{"status", "privateEndpointId", "managedHsmId", "dryRun", "notBefore"} {
		if empty(guard) {
			return fmt.Errorf("%s: is %s; leave it out to guard nothing", guard, fields[guard])
		}
	}
	return nil
}

// request checks the fields one by one.
func (b *body) request() (Request, error) {
	r := Request{Reason: b.Reason, RequestedBy: b.RequestedBy, Ticket: b.Ticket, DryRun: b.DryRun, Force: b.Force}
	var faults []error
	fault := func(field string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
	}
	if b.RequestID != nil {
		err := checkRequestID(*b.RequestID)
		if err == nil {
			r.RequestID = *b.RequestID
		}
		fault("requestId", err)
	}
	if b.NotBefore != nil {
		r.NotBefore = *b.NotBefore
		if year := b.NotBefore.UTC().Year(); year < 1970 || year > 2999 {
			fault("notBefore", fmt.Errorf("the year %d is not one to wait for; leave it out to begin at once", year))
			r.NotBefore = time.Time{}
		}
	}
	for _, s := range b.Status {
		status, err := ParseLinkStatus(s)
		fault("status", err)
		if err == nil && !slices.Contains(r.Statuses, status) {
			r.Statuses = append(r.Statuses, status)
		}
	}
	if b.Status != nil && len(b.Status) == 0 {
		fault("status", errors.New("names no state; leave it out to guard nothing"))
	}
	if b.PrivateEndpointID != "" {
		endpoint, err := ParseEndpointID(b.PrivateEndpointID)
		fault("privateEndpointId", err)
		r.Endpoint = &endpoint
	}
	if b.ManagedHSMID != "" {
		pool, err := ParsePoolID(b.ManagedHSMID)
		fault("managedHsmId", err)
		r.Pool = &pool
	}
	switch {
	case b.ConnectionID != "" && b.ManagedHSMID != "":
		fault("managedHsmId", errors.New("cannot stand beside connectionId: name one connection, or select by pool and status"))
	case b.PrivateEndpointID != "" && b.ManagedHSMID != "":
		fault("managedHsmId", errors.New("cannot stand beside privateEndpointId: select by one of them"))
	case b.ManagedHSMID != "" && b.Status == nil:
		fault("status", errors.New("is missing: managedHsmId selects the connections in these states, such as Disconnected"))
	case b.ConnectionID == "" && b.ManagedHSMID == "" && b.PrivateEndpointID == "":
		fault("connectionId", errors.New("is missing: name the private endpoint connection to delete, or select with privateEndpointId, or with managedHsmId and status"))
	}
	if b.ConnectionID != "" {
		connection, err := ParseConnectionID(b.ConnectionID)
		r.Connection = connection
		fault("connectionId", err)
	}
	return r, errors.Join(faults...)
}

func checkRequestID(id string) error {
	if n := utf8.RuneCountInString(id); n < 1 || n > 128 {
		return fmt.Errorf("has %d characters, expected 1 to 128", n)
	}
	if strings.TrimSpace(id) == "" {
		return errors.New("is blank")
	}
	if strings.ContainsFunc(id, unicode.IsControl) {
		return errors.New("has control characters")
	}
	return nil
}

// LooksLikeRequest tells whether an event's data is meant as a native request: an object with one of its field names, in
// whatever case, so that a misspelt request is refused rather than taken for something else.
func LooksLikeRequest(data []byte) bool {
	var object map[string]jsontext.Value
	if json.Unmarshal(data, &object, jsontext.AllowDuplicateNames(true)) != nil {
		return false
	}
	for name := range object {
		if slices.ContainsFunc(fieldNames, func(f string) bool { return strings.EqualFold(f, name) }) {
			return true
		}
	}
	return false
}

// MentionsRequest tells whether a text that cannot be decoded has the name of a request's field in it.
func MentionsRequest(data []byte) bool {
	text := strings.ToLower(string(data))
	return slices.ContainsFunc(fieldNames, func(f string) bool { return strings.Contains(text, strings.ToLower(f)) })
}

// fieldNames are a request's fields. Some stand in many an event too; taking such an event for a request refuses it in
// words, taking a request for such an event would drop its guards.
var fieldNames = []string{"connectionId", "privateEndpointId", "managedHsmId", "status", "requestId", "reason", "requestedBy", "ticket", "notBefore", "dryRun", "force"}
