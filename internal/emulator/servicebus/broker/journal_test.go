package broker_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hsmsweep/internal/emulator/servicebus/broker"
)

// TestConcurrentClientsAcrossACrash crashes while clients send and complete.
func TestConcurrentClientsAcrossACrash(t *testing.T) {
	const clients, before, crashAfter = 16, 500, 300
	file := stateFile(t)
	config := oneQueue(broker.QueueConfig{DuplicateDetectionWindow: time.Hour})
	b := openBroker(t, file, config)
	q := entity(t, b, "q")
	for i := range before {
		sendIDs(t, q, fmt.Sprint("before ", i))
	}
	must(t, b.Sync())
	received := consume(t, q, broker.PeekLock, before).got()

	var (
		running         sync.WaitGroup
		sent, completed [clients][]string
		acknowledged    atomic.Int64
		enough          = make(chan struct{})
	)
	for c := range clients {
		running.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprint("sent ", c, " ", i)
				send(t, q, &broker.Message{ID: id})
				if b.Sync() != nil {
					return
				}
				sent[c] = append(sent[c], id)
				if i*clients+c < len(received) {
					d := received[i*clients+c]
					if err := q.Complete(d.Token); err != nil {
						t.Error(err)
					}
					if b.Sync() != nil {
						return
					}
					completed[c] = append(completed[c], d.Message.ID)
				}
				if acknowledged.Add(1) == crashAfter {
					close(enough)
				}
			}
		})
	}
	<-enough
	must(t, b.Kill())
	running.Wait()
	if err := b.Sync(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Sync of a broker that cannot write: error %v, want one that names the file", err)
	}

	there := make(map[string]bool)
	for _, d := range entity(t, openBroker(t, file, config), "q").Peek(0, 1e6) {
		there[d.Message.ID] = true
	}
	for c := range clients {
		for _, id := range sent[c] {
			if !there[id] {
				t.Errorf("message %q was acknowledged and is not there", id)
			}
		}
		for _, id := range completed[c] {
			if there[id] {
				t.Errorf("the completion of message %q was acknowledged and it is there", id)
			}
		}
	}
}

func TestCloseKeepsWhatWasDone(t *testing.T) {
	file := stateFile(t)
	b := openBroker(t, file, oneQueue(broker.QueueConfig{}))
	sendIDs(t, entity(t, b, "q"), "1")
	told := make(chan error, 1)
	b.WhenDurable(func(err error) { told <- err })
	b.Close()
	must(t, <-told)
	sendIDs(t, entity(t, b, "q"), "2")
	if err := b.Sync(); err == nil {
		t.Error("Sync of a closed broker: no error")
	}
	wantCounts(t, entity(t, openBroker(t, file, oneQueue(broker.QueueConfig{})), "q"), broker.Counts{Active: 1, Bytes: 1})
}

func TestWithoutAStoreAllIsAcknowledgedAtOnce(t *testing.T) {
	b := newBroker(t, oneQueue(broker.QueueConfig{}))
	sendIDs(t, entity(t, b, "q"), "1")
	told := 0
	b.WhenDurable(func(err error) {
		must(t, err)
		told++
	})
	must(t, b.Sync())
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

// BenchmarkSendReceiveCompleteDurably has 64 clients that each wait for the disk after the send and the completion.
func BenchmarkSendReceiveCompleteDurably(b *testing.B) {
	const clients = 64
	br := openBroker(b, stateFile(b), oneQueue(broker.QueueConfig{DuplicateDetectionWindow: time.Minute}))
	q := entity(b, br, "q")
	var running sync.WaitGroup
	left := atomic.Int64{}
	left.Store(int64(b.N))
	for range clients {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				send(b, q, &broker.Message{Content: "a message"})
				err := br.Sync()
				err = errors.Join(err, q.Complete(receive(b, q).Token), br.Sync())
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	running.Wait()
}

// What the tests share.

// A gobCodec keeps what the tests put into messages.
type gobCodec struct{}

func (gobCodec) EncodeMessage(m *broker.Message) ([]byte, error)   { return toGob(m) }
func (gobCodec) DecodeMessage(b []byte) (*broker.Message, error)   { return fromGob[*broker.Message](b) }
func (gobCodec) EncodeProperties(p map[string]any) ([]byte, error) { return toGob(p) }
func (gobCodec) DecodeProperties(b []byte) (map[string]any, error) { return fromGob[map[string]any](b) }

func toGob(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func fromGob[T any](b []byte) (v T, err error) {
	err = gob.NewDecoder(bytes.NewReader(b)).Decode(&v)
	return v, err
}

type otherCodec struct{ gobCodec }

func (otherCodec) DecodeMessage([]byte) (*broker.Message, error) { return nil, errors.New("not mine") }

type emptyCodec struct{ gobCodec }

func (emptyCodec) EncodeMessage(*broker.Message) ([]byte, error) { return nil, nil }
func (emptyCodec) DecodeMessage([]byte) (*broker.Message, error) { return &broker.Message{}, nil }

func stateFile(t testing.TB) string { return filepath.Join(t.TempDir(), "state") }

func openBroker(t testing.TB, file string, c broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Open(file, gobCodec{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// crash kills the broker once everything is on disk and opens it again.
func crash(t testing.TB, b *broker.Broker, file string, c broker.Config) *broker.Broker {
	t.Helper()
	must(t, b.Sync())
	must(t, b.Kill())
	return openBroker(t, file, c)
}

// A holding is all that a client can see of an entity.
type holding struct {
	Description broker.Description
	Messages    []*broker.Delivery
}

// visible returns what a client can see of all entities, without when they were last used, which need not be exact.
func visible(b *broker.Broker) map[string]holding {
	all := make(map[string]holding)
	add := func(e *broker.Entity) {
		d := e.Describe()
		d.AccessedAt = time.Time{}
		all[e.Path()] = holding{d, e.Peek(0, 1000)}
	}
	for _, e := range b.Entities() {
		add(e)
		if deadLetters, err := b.Entity(e.Path() + "/$DeadLetterQueue"); err == nil {
			add(deadLetters)
		}
	}
	return all
}
