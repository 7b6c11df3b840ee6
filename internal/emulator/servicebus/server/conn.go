package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
)

// A conn is one client. Its fields are the reader's; the writer is behind out.
type conn struct {
	server     *Server
	log        *slog.Logger
	host       string // what the client calls the server, for descriptions of errors
	out        *outbox
	sessions   map[uint16]*session // by channel; both directions use the client's number
	authorized map[string]bool     // paths of entities that tokens were put for
	severed    atomic.Bool         // by a fault
}

// serve runs one connection to its end. The error tells why it ended, nil if the client closed it.
func serve(s *Server, raw net.Conn, log *slog.Logger) error {
	timeout := 2 * s.options.IdleTimeout
	idle := &idleConn{Conn: raw, timeout: timeout}
	stream, err := upgrade(idle, s.options.TLS)
	if err != nil {
		return err
	}
	if s.options.HTTP != nil && stream.speaksHTTP() {
		idle.timeout = 0 // net/http sets deadlines of its own and reads again after one has passed
		return serveHTTP(stream, s.options.HTTP, timeout)
	}
	reader := &amqp.FrameReader{R: stream, Max: maxFrameSize}
	open, err := handshake(stream, reader)
	if err != nil {
		return err
	}
	c := &conn{
		server:     s,
		log:        log,
		host:       open.Hostname,
		out:        newOutbox(raw, stream, open),
		sessions:   map[uint16]*session{},
		authorized: map[string]bool{},
	}
	var writer sync.WaitGroup
	writer.Go(c.out.run)
	c.out.post(func() { c.out.frame(0, answerOpen(s.options.IdleTimeout), nil) })

	err = c.read(reader)

	for _, session := range c.sessions {
		session.release()
	}
	c.sayClose(err)
	c.out.close()
	writer.Wait()
	return err
}

// read handles frames until the connection ends.
func (c *conn) read(reader *amqp.FrameReader) error {
	for !c.out.cutOff.Load() && !c.severed.Load() { // what was read ahead of the cut is not handled
		f, err := reader.Read()
		if err != nil {
			return err
		}
		// The answer may repeat as much as the frame says, so the frame counts until its answer is written.
		size := int(reader.Size)
		c.out.charge(size)
		switch body := f.Body.(type) {
		case nil:
		case *amqp.Begin:
			err = c.begin(f.Channel, body)
		case *amqp.Close:
			return nil
		default:
			err = c.dispatch(f)
		}
		if err != nil {
			return err
		}
		c.out.post(func() { c.out.charge(-size) })
	}
	if c.severed.Load() {
		return errors.New("cut by a fault")
	}
	return fmt.Errorf("the client lets more than %d bytes wait for it", maxBacklog)
}

// sayClose tells the client that the connection ends, unless it is gone already.
func (c *conn) sayClose(reason error) {
	protocolError, ok := errors.AsType[*amqp.Error](reason)
	if reason != nil && !ok {
		return
	}
	c.out.post(func() { c.out.frame(0, &amqp.Close{Error: protocolError}, nil) })
}

// dispatch hands a frame to its session.
func (c *conn) dispatch(f amqp.Frame) error {
	s, ok := c.sessions[f.Channel]
	if !ok {
		// go-amqp may end a session whose begin it never wrote; any answer would end its connection.
		if _, isEnd := f.Body.(*amqp.End); isEnd {
			return nil
		}
		return amqp.Errorf(amqp.CondNotAllowed, "%T on channel %d, which has no session", f.Body, f.Channel)
	}
	if end, ok := f.Body.(*amqp.End); ok {
		c.end(s, end)
		return nil
	}
	if s.ended {
		return nil
	}
	if err := s.handle(f); err != nil {
		s.fail(asError(err))
	}
	return nil
}

func (c *conn) begin(channel uint16, begin *amqp.Begin) error {
	if _, taken := c.sessions[channel]; taken || channel > channelMax {
		return amqp.Errorf(amqp.CondNotAllowed, "channel %d is taken or above %d", channel, channelMax)
	}
	s := newSession(c, channel, begin)
	c.sessions[channel] = s
	c.out.post(func() {
		c.out.sessions[channel] = s
		c.out.frame(channel, &amqp.Begin{
			RemoteChannel:  &channel,
			IncomingWindow: sessionIncoming,
			OutgoingWindow: sessionIncoming,
			HandleMax:      begin.HandleMax,
		}, nil)
	})
	return nil
}

func (c *conn) end(s *session, end *amqp.End) {
	if end.Error != nil {
		c.log.Info("session ended by the client", slog.Any("error", end.Error))
	}
	delete(c.sessions, s.channel)
	if !s.ended {
		s.finish(&amqp.End{})
	}
}

// execute carries out one operation and passes its result on to answer, which
// tells the client. Every attach, send, settlement and request comes through
// here, and so do the faults that fail it, or that lose the answer.
func (c *conn) execute(op fault.Operation, run func() error, answer func(error)) {
	c.executeWith(c.faultOf(op), op, run, answer)
}

func (c *conn) executeWith(f fault.Fault, op fault.Operation, run func() error, answer func(error)) {
	switch f.Kind {
	case fault.Refused:
		answer(amqp.Errorf(cmp.Or(amqp.Symbol(f.Condition), amqp.CondServerBusy), "The service was told to refuse this %s.", op.Name))
		return
	case fault.Unheard:
		c.cut()
		return
	}
	c.server.count(op.Name, op.Target)
	err := run()
	if err != nil {
		c.log.Debug("operation refused", slog.String("operation", op.Name), slog.String("entity", op.Target), slog.Any("error", err))
	}
	switch f.Kind {
	case fault.Unanswered:
		c.cut()
	case fault.Silent:
	default:
		answer(err)
	}
}

func (c *conn) faultOf(op fault.Operation) fault.Fault {
	op.Service = fault.ServiceBus
	return c.server.options.Faults.For(op)
}

// cut ends the connection without a word, whatever waits to be written.
func (c *conn) cut() {
	c.severed.Store(true)
	c.out.raw.Close()
}

// executeDurably is execute for what may change the broker: the client is told once the change will last. The reader
// does not wait for that, so that the operations of one connection share commits; answer may be called by another
// goroutine and must not touch what is the reader's.
//
// A fault's delay is another goroutine's too: the operation is late, those behind it are not. Attaching and putting a token know
// no delay: the Go SDK holds locks meanwhile, and in virtual time nobody who waits for one of them lets the clock go on.
func (c *conn) executeDurably(op fault.Operation, run func() error, answer func(error)) {
	f := c.faultOf(op)
	carryOut := func() {
		c.executeWith(f, op, run, func(err error) {
			c.server.options.Broker.WhenDurable(func(lost error) {
				if err == nil {
					err = lost
				}
				answer(err)
			})
		})
	}
	if f.Delay > 0 && op.Name != "put-token" {
		time.AfterFunc(f.Delay, carryOut)
		return
	}
	carryOut()
}
