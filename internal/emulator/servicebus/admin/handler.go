// Package admin is the administration API of Service Bus over a broker: ATOM entries over HTTP, by which
// queues, topics, subscriptions and rules are created, read, listed, updated and deleted while the namespace is
// in use. It serves the admin clients of the Azure SDKs and whatever else reads message counts there.
//
// A request's description becomes the broker's settings and the broker's description becomes the answer's, both by
// one table (settings.go). What the broker does not have (message sessions, forwarding, partitions, SQL filters) is
// refused in words that name it; it is never taken and left out. Every Authorization is accepted, none is not.
package admin

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	maxBody = 1 << 20 // bytes of a request
	maxPage = 100     // entries; the service's limit and its default

	// namespaceName is what Microsoft's emulator calls its namespace.
	namespaceName = "sbemulatorns"
)

type handler struct {
	broker    *broker.Broker
	createdAt time.Time
}

// New returns the administration API of a broker's namespace.
func New(b *broker.Broker) http.Handler {
	return &handler{broker: b, createdAt: time.Now()}
}

// A reply is what is answered if nothing is wrong.
type reply struct {
	status int
	body   element // none if it has no name
}

// A fault is an error with a status of its own.
type fault struct {
	status int
	detail string
}

func (f fault) Error() string { return f.detail }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := h.serve(r)
	if err == nil {
		err = h.sync()
	}
	if err != nil {
		answer = errorReply(err)
	}
	var text []byte
	if answer.body.XMLName.Local != "" {
		if text, err = xml.Marshal(answer.body); err != nil {
			http.Error(w, fmt.Sprintf("the answer cannot be written as XML: %v", err), http.StatusInternalServerError)
			return
		}
	}
	switch answer.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "SharedAccessSignature")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", "GET, PUT, DELETE")
	}
	w.Header().Set("Content-Type", "application/atom+xml;charset=utf-8")
	w.WriteHeader(answer.status)
	// The client has gone if this fails: nobody is left to be told.
	_, _ = w.Write(text)
}

// rulePath and subscriptionPath are below a topic, with or without a name at their ends.
var (
	rulePath         = regexp.MustCompile(`(?i)^(.+/subscriptions/[^/]+)/rules(?:/([^/]+))?$`)
	subscriptionPath = regexp.MustCompile(`(?i)^(.+)/subscriptions(?:/([^/]+))?$`)
)

func (h *handler) serve(r *http.Request) (reply, error) {
	if strings.TrimSpace(r.Header.Get("Authorization")) == "" {
		return reply{}, fault{http.StatusUnauthorized, "MissingToken: the Authorization header is missing; send any token"}
	}
	path := strings.Trim(r.URL.Path, "/")
	rule, subscription := rulePath.FindStringSubmatch(path), subscriptionPath.FindStringSubmatch(path)
	switch lower := strings.ToLower(path); {
	case r.Method != http.MethodGet && r.Method != http.MethodPut && r.Method != http.MethodDelete:
		return reply{}, fault{http.StatusMethodNotAllowed, r.Method + " is not among the methods of this API"}
	case lower == "$namespaceinfo" && r.Method == http.MethodGet:
		return h.namespace(r), nil
	case lower == "$resources/queues" && r.Method == http.MethodGet:
		return listEntities(r, "Queues", h.ofKind(broker.Queue))
	case lower == "$resources/topics" && r.Method == http.MethodGet:
		return listEntities(r, "Topics", h.ofKind(broker.Topic))
	case rule != nil:
		return h.serveRule(r, rule[1], rule[2])
	case subscription != nil && subscription[2] == "" && r.Method == http.MethodGet:
		topic, err := h.entity(subscription[1], broker.Topic)
		if err != nil {
			return reply{}, err
		}
		return listEntities(r, "Subscriptions", topic.Subscriptions())
	}
	return h.serveEntity(r, path)
}

// sync waits until what was changed will last.
func (h *handler) sync() error {
	if err := h.broker.Sync(); err != nil {
		return fault{http.StatusInternalServerError, err.Error()}
	}
	return nil
}

func (h *handler) namespace(r *http.Request) reply {
	created := formatTime(h.createdAt.UTC())
	info := described("NamespaceInfo",
		textElement("CreatedTime", created),
		textElement("MessagingSKU", "Standard"),
		textElement("ModifiedTime", created),
		textElement("Name", namespaceName),
		textElement("NamespaceType", "Messaging"))
	return reply{http.StatusOK, entry(r, "$namespaceinfo", namespaceName, info, h.createdAt, h.createdAt)}
}

func (h *handler) ofKind(k broker.Kind) []*broker.Entity {
	var found []*broker.Entity
	for _, e := range h.broker.Entities() {
		if e.Kind() == k {
			found = append(found, e)
		}
	}
	return found
}

// entity finds an entity of one of these kinds; another kind is as good as none.
func (h *handler) entity(path string, kinds ...broker.Kind) (*broker.Entity, error) {
	e, err := h.broker.Entity(path)
	if err != nil {
		return nil, err
	}
	for _, k := range kinds {
		if e.Kind() == k {
			return e, nil
		}
	}
	return nil, fmt.Errorf("%q is a %v: %w", path, e.Kind(), broker.ErrNotFound)
}

func listEntities(r *http.Request, title string, entities []*broker.Entity) (reply, error) {
	from, to, err := page(r, len(entities))
	if err != nil {
		return reply{}, err
	}
	var entries []element
	for _, e := range entities[from:to] {
		entries = append(entries, entityEntry(r, e.Describe()))
	}
	return reply{http.StatusOK, feed(r, title, entries)}, nil
}

// page returns which of n entries the query asks for.
func page(r *http.Request, n int) (from, to int, err error) {
	query := r.URL.Query()
	number := func(name string, absent int) int {
		text := query.Get(name)
		if text == "" {
			return absent
		}
		value, parseErr := strconv.Atoi(text)
		if parseErr != nil || value < 0 {
			err = fmt.Errorf("%s is %q; it must be a number from 0 upwards", name, text)
		}
		return max(value, 0)
	}
	from = min(number("$skip", 0), n)
	to = from + min(number("$top", maxPage), maxPage, n-from)
	return from, to, err
}

// readDescription reads the description in a request's entry.
func readDescription(r *http.Request) (element, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return element{}, fmt.Errorf("the body cannot be read: %w", err)
	case len(body) > maxBody:
		return element{}, fmt.Errorf("the body is longer than %d bytes", maxBody)
	}
	var root element
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&root); err != nil {
		return element{}, fmt.Errorf("the body is not XML: %w", err)
	}
	content, ok := root.child("content")
	if root.XMLName.Local != "entry" || !ok || len(content.Children) != 1 {
		return element{}, errors.New("the body is not an ATOM entry whose content is one description")
	}
	return content.Children[0], nil
}

func errorReply(err error) reply {
	status := http.StatusBadRequest
	if f, ok := errors.AsType[fault](err); ok {
		status = f.status
	}
	switch {
	case errors.Is(err, broker.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, broker.ErrExists):
		status = http.StatusConflict
	}
	return reply{status, node("Error", textElement("Code", strconv.Itoa(status)), textElement("Detail", err.Error()))}
}
