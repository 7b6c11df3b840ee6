package server

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"hsmsweep/internal/emulator/servicebus/amqp"
)

const (
	flushSize  = 64 << 10
	maxBacklog = 64 << 20 // bytes; a client that is further behind is cut off
	eventCost  = 256      // bytes that a queued event or delivery is taken to occupy
)

// An outbox is the sending side of a connection. Any goroutine may post events,
// also under the broker's lock. The writer goroutine runs them in order; they
// alone touch the fields below events, and the sending state of sessions and links.
type outbox struct {
	raw       net.Conn
	stream    net.Conn
	maxFrame  int
	heartbeat time.Duration
	backlog   atomic.Int64
	cutOff    atomic.Bool // the backlog has been too large
	wake      chan struct{}

	mu     sync.Mutex
	events []func()
	closed bool

	frames   amqp.FrameWriter
	sessions map[uint16]*session
	scratch  []byte
	broken   bool // writing failed: run events without writing
}

func newOutbox(raw, stream net.Conn, open *amqp.Open) *outbox {
	o := &outbox{
		raw:       raw,
		stream:    stream,
		maxFrame:  maxFrameSize,
		heartbeat: heartbeatInterval(open),
		wake:      make(chan struct{}, 1),
		sessions:  map[uint16]*session{},
	}
	if open.MaxFrameSize != nil {
		o.maxFrame = int(max(amqp.MinMaxFrameSize, min(maxFrameSize, *open.MaxFrameSize)))
	}
	return o
}

// post queues an event for the writer.
func (o *outbox) post(event func()) {
	o.mu.Lock()
	if !o.closed {
		o.events = append(o.events, event)
		o.charge(eventCost)
	}
	o.mu.Unlock()
	o.signal()
}

// charge counts bytes that wait to be written and cuts off a client that lets too many wait.
func (o *outbox) charge(bytes int) {
	if o.backlog.Add(int64(bytes)) > maxBacklog {
		o.cutOff.Store(true)
		o.raw.Close()
	}
}

// close lets the writer end after the events that are queued.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run writes until close. Frames that become ready together leave in one write.
func (o *outbox) run() {
	timer := time.NewTimer(o.heartbeat)
	defer timer.Stop()
	var events []func()
	for {
		var closed bool
		if events, closed = o.take(events); len(events) > 0 {
			for _, event := range events {
				event()
			}
			o.charge(-eventCost * len(events))
			continue
		}
		if closed {
			break
		}
		if o.flush() {
			timer.Reset(o.heartbeat)
		}
		select {
		case <-o.wake:
		case <-timer.C:
			o.frame(0, nil, nil)
		}
	}
	for _, s := range o.sessions {
		o.drop(s.sending...)
	}
	// The client need not read any more; it must not keep the connection open by that.
	cut := time.AfterFunc(closeTimeout, func() { o.raw.Close() })
	defer cut.Stop()
	o.flush()
	o.raw.Close()
}

// take returns the queued events and leaves the given slice to be filled next.
func (o *outbox) take(empty []func()) (events []func(), closed bool) {
	clear(empty)
	o.mu.Lock()
	defer o.mu.Unlock()
	events, o.events = o.events, empty[:0]
	return events, o.closed
}

// frame adds a frame to what is written next.
func (o *outbox) frame(channel uint16, body amqp.Composite, payload []byte) {
	if o.broken {
		return
	}
	if err := o.frames.Append(amqp.Frame{Channel: channel, Body: body, Payload: payload}); err != nil {
		o.fail()
		return
	}
	if len(o.frames.Bytes()) >= flushSize {
		o.flush()
	}
}

// flush writes what has been collected and reports whether there was anything.
func (o *outbox) flush() bool {
	b := o.frames.Bytes()
	if len(b) == 0 {
		return false
	}
	if !o.broken {
		if _, err := o.stream.Write(b); err != nil {
			o.fail()
		}
	}
	o.frames.Reset()
	return true
}

// fail ends the connection: the reader notices and closes the outbox.
func (o *outbox) fail() {
	o.broken = true
	o.raw.Close()
}
