// Package rest is Service Bus's REST interface for senders: POST /{queue or topic}/messages, by which whatever speaks HTTP (a
// ticket system, curl, a logic app) sends one message. Batches, and receiving over HTTP, are refused.
//
// Sources: https://learn.microsoft.com/rest/api/servicebus/send-message-to-queue and …/message-headers-and-properties. Statuses are
// those of the first page; where it leaves one open, the choice is marked unverified.
package rest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// batchType is the content type by which a body is an array of messages.
const batchType = "application/vnd.microsoft.servicebus.json"

// New returns a handler of sends to a broker's queues and topics. What is no POST to …/messages is for other.
func New(b *broker.Broker, other http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entity, ok := strings.CutSuffix(r.URL.Path, "/messages")
		if !ok || r.Method != http.MethodPost {
			other.ServeHTTP(w, r)
			return
		}
		if err := send(b, entity, r); err != nil {
			refuse(w, err)
			return
		}
		w.Header()["Content-Type"] = r.Header["Content-Type"]
		w.WriteHeader(http.StatusCreated)
	})
}

// A fault is an error with a status of its own.
type fault struct {
	status int
	detail string
}

func (f fault) Error() string { return f.detail }

func send(b *broker.Broker, path string, r *http.Request) error {
	if strings.TrimSpace(r.Header.Get("Authorization")) == "" {
		return fault{http.StatusUnauthorized, "MissingToken: the Authorization header is missing; send any token"}
	}
	entity, err := b.Entity(path)
	if err != nil {
		return err
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == batchType {
		return errors.New("a batch of messages, which the emulator does not serve; send each message by itself")
	}
	most := entity.MaxMessageSize()
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(most)+1))
	if err != nil {
		return fmt.Errorf("the body cannot be read: %w", err)
	}
	content, err := newMessage(r.Header, body)
	if err != nil {
		return err
	}
	encoded, err := content.Append(nil)
	if err != nil {
		return err
	}
	if len(encoded) > most {
		return fault{http.StatusForbidden, fmt.Sprintf("The message is larger than the limit of %d bytes.", most)}
	}
	message, err := server.Codec{}.DecodeMessage(encoded)
	if err != nil {
		return err
	}
	if _, err := entity.Send(message); err != nil {
		return err
	}
	if err := b.Sync(); err != nil {
		return fault{http.StatusInternalServerError, err.Error()}
	}
	return nil
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest // also for what takes no messages, such as a subscription (unverified)
	if f, ok := errors.AsType[fault](err); ok {
		status = f.status
	}
	switch {
	case errors.Is(err, broker.ErrNotFound):
		status = http.StatusGone
	case errors.Is(err, broker.ErrFull), errors.Is(err, broker.ErrDisabled): // of a disabled one unverified
		status = http.StatusForbidden
	}
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Detail  string
	}{Code: strconv.Itoa(status), Detail: err.Error()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer, SharedAccessSignature")
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.WriteHeader(status)
	// The client has gone if this fails: nobody is left to be told.
	_, _ = w.Write(text)
}
