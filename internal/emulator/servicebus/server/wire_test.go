package server_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

// A wire is a client that says exactly what a test wants said.
type wire struct {
	t      *testing.T
	conn   net.Conn
	reader amqp.FrameReader
}

// onWire runs a test in virtual time with a client that has sent a bare AMQP
// header, opened a connection and begun a session on channel 0.
func onWire(t *testing.T, open *amqp.Open, begin *amqp.Begin, f func(t *testing.T, e *emulator, w *wire)) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{})
		conn := e.dial()
		w := &wire{t: t, conn: conn, reader: amqp.FrameReader{R: conn, Max: 65536}}
		t.Cleanup(func() { conn.Close() })
		w.header(amqp.HeaderAMQP)
		open.ContainerID = "test"
		w.write(open)
		read[*amqp.Open](w)
		w.write(begin)
		if got := read[*amqp.Begin](w); got.RemoteChannel == nil || *got.RemoteChannel != 0 {
			t.Fatalf("begin answered with remote channel %v, want 0", got.RemoteChannel)
		}
		f(t, e, w)
	})
}

func wide() *amqp.Begin { return &amqp.Begin{IncomingWindow: 5000, OutgoingWindow: 5000} }

func (w *wire) header(h string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, h); err != nil {
		w.t.Fatal(err)
	}
	got := make([]byte, len(h))
	if _, err := io.ReadFull(w.conn, got); err != nil || string(got) != h {
		w.t.Fatalf("the server answers header %q with %q, %v", h, got, err)
	}
}

func (w *wire) write(body amqp.Composite) { w.t.Helper(); w.writeFrame(amqp.Frame{Body: body}) }

func (w *wire) writeFrame(f amqp.Frame) {
	w.t.Helper()
	var out amqp.FrameWriter
	if err := out.Append(f); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.conn.Write(out.Bytes()); err != nil {
		w.t.Fatalf("write %T: %v", f.Body, err)
	}
}

// next is the next frame that is no heartbeat.
func (w *wire) next() amqp.Frame {
	w.t.Helper()
	for {
		f, err := w.reader.Read()
		if err != nil {
			w.t.Fatalf("read: %v", err)
		}
		if f.Body != nil {
			return f
		}
	}
}

// read expects the next frame to be a T.
func read[T amqp.Composite](w *wire) T {
	w.t.Helper()
	f := w.next()
	body, ok := f.Body.(T)
	if !ok {
		w.t.Fatalf("received %T %+v, want %T", f.Body, f.Body, body)
	}
	return body
}

// quiet checks that the server sends nothing by itself.
func (w *wire) quiet() {
	w.t.Helper()
	w.conn.SetReadDeadline(time.Now().Add(time.Second))
	defer w.conn.SetReadDeadline(time.Time{})
	if f, err := w.reader.Read(); err == nil {
		w.t.Fatalf("received %T %+v, want nothing", f.Body, f.Body)
	}
}

func (w *wire) receiver(handle uint32, address string) *amqp.Attach {
	w.t.Helper()
	w.write(&amqp.Attach{
		Name: fmt.Sprint("receiver-", handle), Handle: handle, Role: amqp.RoleReceiver,
		ReceiverSettleMode: new(amqp.ReceiverSecond),
		Source:             &amqp.Source{Address: address}, Target: &amqp.Target{},
	})
	return read[*amqp.Attach](w)
}

func (w *wire) sender(handle uint32, address string) *amqp.Attach {
	w.t.Helper()
	w.write(&amqp.Attach{
		Name: fmt.Sprint("sender-", handle), Handle: handle, Role: amqp.RoleSender,
		Source: &amqp.Source{}, Target: &amqp.Target{Address: address}, InitialDeliveryCount: new(uint32(0)),
	})
	return read[*amqp.Attach](w)
}

func (w *wire) flow(f amqp.Flow) {
	w.t.Helper()
	if f.NextIncomingID == nil {
		f.NextIncomingID = new(uint32(0))
	}
	w.write(&f)
}

func enqueue(t *testing.T, e *emulator, path string, bodies ...[]byte) {
	t.Helper()
	entity, err := e.broker.Entity(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		m := &amqp.Message{Body: amqp.Data{body}}
		if _, err := entity.Send(&broker.Message{Content: m, Size: len(body)}); err != nil {
			t.Fatal(err)
		}
	}
}

func encoded(t *testing.T, body []byte) []byte {
	t.Helper()
	b, err := (&amqp.Message{Body: amqp.Data{body}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDrain(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		w.receiver(7, "queue")
		enqueue(t, e, "queue", []byte("a"), []byte("b"))
		w.flow(amqp.Flow{IncomingWindow: 100, Handle: new(uint32(7)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(10)), Drain: true})
		for id := range uint32(2) {
			if got := read[*amqp.Transfer](w); *got.DeliveryID != id || got.Handle != 7 {
				t.Errorf("transfer %+v, want delivery %d on handle 7", got, id)
			}
		}
		got := read[*amqp.Flow](w)
		if *got.Handle != 7 || *got.DeliveryCount != 10 || *got.LinkCredit != 0 || !got.Drain {
			t.Errorf("flow %+v, want delivery count 10, credit 0, drain", got)
		}
		enqueue(t, e, "queue", []byte("c"))
		w.quiet()
		w.flow(amqp.Flow{IncomingWindow: 100, Handle: new(uint32(7)), DeliveryCount: new(uint32(10)), LinkCredit: new(uint32(1))})
		read[*amqp.Transfer](w)
	})
}

func TestCreditChanges(t *testing.T) {
	onWire(t, &amqp.Open{}, &amqp.Begin{IncomingWindow: math.MaxUint32}, func(t *testing.T, e *emulator, w *wire) {
		w.receiver(0, "queue")
		credit := func(seen, credit uint32, drain bool) {
			t.Helper()
			w.flow(amqp.Flow{NextIncomingID: &seen, IncomingWindow: math.MaxUint32, Handle: new(uint32(0)), DeliveryCount: &seen, LinkCredit: &credit, Drain: drain})
			synctest.Wait()
		}
		credit(0, math.MaxUint32, false)
		enqueue(t, e, "queue", []byte("a"), []byte("b"))
		read[*amqp.Transfer](w)
		read[*amqp.Transfer](w)
		credit(1, 0, false) // the client has not seen b yet and wants no more
		enqueue(t, e, "queue", []byte("c"), []byte("d"))
		w.quiet()
		credit(2, 0, true)
		if f := read[*amqp.Flow](w); *f.DeliveryCount != 2 || *f.LinkCredit != 0 {
			t.Errorf("flow %+v, want delivery count 2", f)
		}
		credit(2, 1, false)
		credit(2, 1, false) // the same again is no more credit
		if c := read[*amqp.Transfer](w); *c.DeliveryID != 2 {
			t.Errorf("delivery id %d, want 2", *c.DeliveryID)
		}
		w.quiet()
	})
}

// Small frames and a small window: a delivery stops and goes on where it
// stopped, whatever another session receives in between.
func TestWindowAndFrameSize(t *testing.T) {
	begin := &amqp.Begin{IncomingWindow: 2, OutgoingWindow: 2}
	onWire(t, &amqp.Open{MaxFrameSize: new(uint32(512))}, begin, func(t *testing.T, e *emulator, w *wire) {
		w.writeFrame(amqp.Frame{Channel: 1, Body: wide()})
		read[*amqp.Begin](w)
		w.writeFrame(amqp.Frame{Channel: 1, Body: &amqp.Attach{Name: "other", Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "topic/Subscriptions/all"}}})
		read[*amqp.Attach](w)
		w.writeFrame(amqp.Frame{Channel: 1, Body: &amqp.Flow{IncomingWindow: 5000, Handle: new(uint32(0)), LinkCredit: new(uint32(100))}})

		w.receiver(0, "queue")
		body := bytes.Repeat([]byte("0123456789"), 300)
		enqueue(t, e, "queue", body)
		w.flow(amqp.Flow{IncomingWindow: 2, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(1))})
		var payload []byte
		for frames := uint32(1); ; frames++ {
			f := w.next()
			payload = append(payload, f.Payload...)
			if !f.Body.(*amqp.Transfer).More {
				break
			}
			if frames%2 == 0 {
				w.quiet()
				enqueue(t, e, "topic", bytes.Repeat([]byte("x"), len(body)))
				for more := true; more; {
					f := w.next()
					if f.Channel != 1 {
						t.Fatalf("%T on channel %d, want the other session's message", f.Body, f.Channel)
					}
					more = f.Body.(*amqp.Transfer).More
				}
				w.flow(amqp.Flow{NextIncomingID: new(frames), IncomingWindow: 2})
			}
		}
		m, err := amqp.ParseMessage(payload)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Body.(amqp.Data)[0]; !bytes.Equal(got, body) {
			t.Errorf("the body of %d bytes came as %d bytes %.40q", len(body), len(got), got)
		}
	})
}

// A delivery that the client has seen nothing of is available again when the link goes.
func TestUnsentDeliveryIsReleased(t *testing.T) {
	ends := map[string]func(*wire){
		"detach": func(w *wire) { w.write(&amqp.Detach{Handle: 0, Closed: true}); read[*amqp.Detach](w) },
		"end":    func(w *wire) { w.write(&amqp.End{}); read[*amqp.End](w) },
		"cut":    func(w *wire) { w.conn.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			onWire(t, &amqp.Open{}, &amqp.Begin{}, func(t *testing.T, e *emulator, w *wire) {
				w.receiver(0, "queue")
				enqueue(t, e, "queue", []byte("x"))
				w.flow(amqp.Flow{IncomingWindow: 0, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(1))})
				w.quiet()
				end(w)
				synctest.Wait()
				m := receive(t, newReceiver(t, e.newClient(t), "queue", nil))
				if m.DeliveryCount != 1 || !m.EnqueuedTime.Add(lockDuration/2).After(time.Now()) {
					t.Errorf("delivery count %d after %v", m.DeliveryCount, time.Since(*m.EnqueuedTime))
				}
			})
		})
	}
}

func TestUnknownDeliveryIsLockLost(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
		w.receiver(0, "queue")
		w.write(&amqp.Disposition{Role: amqp.RoleReceiver, First: 3, Last: new(uint32(4)), State: &amqp.Accepted{}})
		for id := range uint32(2) {
			got := read[*amqp.Disposition](w)
			rejected, ok := got.State.(*amqp.Rejected)
			if got.First != 3+id || !got.Settled || got.Role != amqp.RoleSender || !ok || rejected.Error.Condition != amqp.CondMessageLockLost {
				t.Errorf("disposition %+v, want a settled rejection of %d with the lock lost", got, 3+id)
			}
		}
	})
}

func TestRefusedAttach(t *testing.T) {
	session := amqp.Map{{Key: amqp.Symbol("com.microsoft:session-filter"), Value: "s"}}
	tests := map[string]struct {
		attach amqp.Attach
		want   amqp.Symbol
	}{
		"receive from nowhere":   {amqp.Attach{Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "nowhere"}}, amqp.CondNotFound},
		"receive from a topic":   {amqp.Attach{Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "topic"}}, amqp.CondNotAllowed},
		"receive from no source": {amqp.Attach{Role: amqp.RoleReceiver}, amqp.CondNotFound},
		"receive a session":      {amqp.Attach{Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "queue", Filter: session}}, amqp.CondNotAllowed},
		"send to a subscription": {amqp.Attach{Target: &amqp.Target{Address: "topic/Subscriptions/all"}}, amqp.CondNotAllowed},
		"send to a dead-letter":  {amqp.Attach{Target: &amqp.Target{Address: "queue/$DeadLetterQueue"}}, amqp.CondNotAllowed},
		"send to nowhere":        {amqp.Attach{Target: &amqp.Target{Address: "/nowhere/$management"}}, amqp.CondNotFound},
		"transaction":            {amqp.Attach{Target: &amqp.Coordinator{}}, amqp.CondNotImplemented},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
				attach := test.attach
				attach.Name, attach.Handle = "link", 3
				w.write(&attach)
				got := read[*amqp.Attach](w)
				if got.Name != "link" || got.Role == attach.Role {
					t.Errorf("attach %+v, want the name and the other role", got)
				}
				if attach.Role == amqp.RoleReceiver && got.Source != nil || attach.Role == amqp.RoleSender && got.Target != nil {
					t.Errorf("attach %+v, want no terminus", got)
				}
				if d := read[*amqp.Detach](w); d.Handle != 3 || !d.Closed || d.Error == nil || d.Error.Condition != test.want {
					t.Errorf("detach %+v, error %v; want %s", d, d.Error, test.want)
				}
				w.write(&amqp.Detach{Handle: 3, Closed: true})
				w.receiver(3, "queue") // handle and session are usable
			})
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"queue", "/queue", "QUEUE", "amqps://host:1234/queue", "queue/$management", "queue/$DeadLetterQueue", "topic/subscriptions/ALL/$deadletterqueue/$Management", "$cbs"} {
		t.Run(address, func(t *testing.T) {
			onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
				if a := w.receiver(0, address); a.Source == nil || a.Source.Address != address {
					t.Errorf("attach answered with source %+v", a.Source)
				}
			})
		})
	}
}

func TestOversizedDeliveryIsRejected(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		if a := w.sender(0, "small"); *a.MaxMessageSize != 1024 {
			t.Errorf("maximum message size %d, want 1024", *a.MaxMessageSize)
		}
		read[*amqp.Flow](w)
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(0)), DeliveryTag: []byte{1}}, Payload: encoded(t, make([]byte, 2000))})
		rejected, _ := read[*amqp.Disposition](w).State.(*amqp.Rejected)
		if rejected == nil || rejected.Error.Condition != amqp.CondMessageTooLarge {
			t.Errorf("outcome %+v, want %s", rejected, amqp.CondMessageTooLarge)
		}
		wantCounts(t, e, "small", broker.Counts{})
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(1)), DeliveryTag: []byte{2}}, Payload: encoded(t, []byte("small"))})
		next := read[*amqp.Disposition](w)
		if _, ok := next.State.(*amqp.Accepted); !ok || next.First != 1 {
			t.Errorf("delivery %d: outcome %+v; want the link to accept delivery 1", next.First, next.State)
		}
	})
}

func TestUnusualTransfers(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		w.sender(0, "queue")
		read[*amqp.Flow](w)
		message := encoded(t, []byte("x"))
		first := amqp.Transfer{DeliveryID: new(uint32(0)), DeliveryTag: []byte{1}, More: true}
		w.writeFrame(amqp.Frame{Body: &first, Payload: message[:3]})
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{Aborted: true}})
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(1)), DeliveryTag: []byte{2}, Settled: true}, Payload: message})
		w.quiet() // neither is answered
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(2)), DeliveryTag: []byte{3}}, Payload: []byte("garbage")})
		got := read[*amqp.Disposition](w)
		if rejected, ok := got.State.(*amqp.Rejected); !ok || got.First != 2 || rejected.Error.Condition != amqp.CondDecodeError {
			t.Errorf("disposition %+v, want garbage rejected", got)
		}
		wantCounts(t, e, "queue", broker.Counts{Active: 1})
	})
}

// A delivery of more frames than the window has: the window is renewed on the way.
func TestIncomingWindowIsRenewed(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		w.sender(0, "queue")
		read[*amqp.Flow](w)
		message := encoded(t, make([]byte, 6000))
		for i := range message {
			transfer := &amqp.Transfer{More: i < len(message)-1}
			if i == 0 {
				transfer.DeliveryID, transfer.DeliveryTag = new(uint32(0)), []byte{}
			}
			w.writeFrame(amqp.Frame{Body: transfer, Payload: message[i : i+1]})
			if sent := uint32(i + 1); sent%2500 == 0 {
				if f := read[*amqp.Flow](w); *f.NextIncomingID != sent || f.IncomingWindow != 5000 {
					t.Errorf("flow %+v after %d frames", f, sent)
				}
			}
		}
		if d := read[*amqp.Disposition](w); d.First != 0 {
			t.Errorf("disposition %+v", d)
		}
		wantCounts(t, e, "queue", broker.Counts{Active: 1})
	})
}

func TestMalformedBatch(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		w.sender(0, "queue")
		read[*amqp.Flow](w)
		good := encoded(t, []byte("x"))
		for id, envelope := range []*amqp.Message{
			{Body: amqp.Data{good, []byte("garbage")}},
			{Body: amqp.Value{Value: "x"}},
			{},
		} {
			b, err := envelope.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			transfer := &amqp.Transfer{DeliveryID: new(uint32(id)), DeliveryTag: []byte{}, MessageFormat: new(amqp.BatchFormat)}
			w.writeFrame(amqp.Frame{Body: transfer, Payload: b})
			if d := read[*amqp.Disposition](w); d.First != uint32(id) || d.State.(*amqp.Rejected).Error == nil {
				t.Errorf("disposition %+v, want batch %d rejected", d, id)
			}
		}
		wantCounts(t, e, "queue", broker.Counts{})
	})
}

func TestProtocolErrors(t *testing.T) {
	tests := map[string]struct {
		frame []byte
		want  amqp.Symbol
	}{
		"too small":       {[]byte{0, 0, 0, 4, 2, 0, 0, 0}, amqp.CondFramingError},
		"too large":       {[]byte{0, 2, 0, 0, 2, 0, 0, 0}, amqp.CondFramingError},
		"bad offset":      {[]byte{0, 0, 0, 8, 9, 0, 0, 0}, amqp.CondFramingError},
		"no performative": {[]byte{0, 0, 0, 9, 2, 0, 0, 0, 0x40}, amqp.CondDecodeError},
		"no session":      {[]byte{0, 0, 0, 15, 2, 0, 0, 9, 0, 0x53, 0x16, 0xc0, 2, 1, 0x43}, amqp.CondNotAllowed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
				if _, err := w.conn.Write(test.frame); err != nil {
					t.Fatal(err)
				}
				if c := read[*amqp.Close](w); c.Error == nil || c.Error.Condition != test.want {
					t.Errorf("close %+v, want %s", c.Error, test.want)
				}
				if _, err := w.reader.Read(); err != io.EOF {
					t.Errorf("after close: %v, want EOF", err)
				}
			})
		})
	}
}

func TestRefusedHandshake(t *testing.T) {
	sasl := func(mechanism amqp.Symbol) []byte {
		var w amqp.FrameWriter
		if err := w.Append(amqp.Frame{Type: amqp.FrameSASL, Body: &amqp.SASLInit{Mechanism: mechanism}}); err != nil {
			t.Fatal(err)
		}
		return append([]byte(amqp.HeaderSASL), w.Bytes()...)
	}
	for name, hello := range map[string][]byte{
		"another protocol":  []byte("GET / HT"),
		"another version":   []byte("AMQP\x00\x00\x09\x01"),
		"TLS without TLS":   {0x16, 3, 1, 0, 0, 0, 0, 0},
		"SASL mechanism":    sasl("PLAIN"),
		"no open":           []byte(amqp.HeaderAMQP + "\x00\x00\x00\x0f\x02\x00\x00\x00\x00\x53\x17\xc0\x02\x01\x40"),
		"hello and no more": []byte("AMQP"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEmulator(t, server.Options{})
				conn := e.dial()
				defer conn.Close()
				go conn.Write(hello)
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("read: %v", err)
				}
				synctest.Wait()
				if n := e.Connections(); n != 0 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
}

func TestSessionErrors(t *testing.T) {
	link := &amqp.Attach{Name: "again", Handle: 0, Role: amqp.RoleReceiver, Source: &amqp.Source{Address: "queue"}}
	for name, test := range map[string]struct {
		frame amqp.Composite
		want  amqp.Symbol
	}{
		"detach of nothing":      {&amqp.Detach{Handle: 5}, amqp.CondUnattachedHandle},
		"transfer on nothing":    {&amqp.Transfer{Handle: 5}, amqp.CondUnattachedHandle},
		"flow for nothing":       {&amqp.Flow{Handle: new(uint32(5))}, amqp.CondUnattachedHandle},
		"transfer to a receiver": {&amqp.Transfer{Handle: 0, DeliveryID: new(uint32(0))}, amqp.CondNotAllowed},
		"handle in use":          {link, amqp.CondNotAllowed},
		"endless range":          {&amqp.Disposition{Role: amqp.RoleReceiver, Last: new(uint32(1 << 31)), State: &amqp.Accepted{}}, amqp.CondInvalidField},
		"open in a session":      {&amqp.Open{ContainerID: "x"}, amqp.CondNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
				w.receiver(0, "queue")
				w.write(test.frame)
				if end := read[*amqp.End](w); end.Error == nil || end.Error.Condition != test.want {
					t.Errorf("end %+v, want %s", end.Error, test.want)
				}
				w.write(&amqp.Detach{Handle: 6}) // on its way when the session ended
				w.write(&amqp.End{})
				w.write(wide())
				read[*amqp.Begin](w)
			})
		})
	}
}

func TestTransferWithoutDeliveryID(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
		w.sender(0, "queue")
		read[*amqp.Flow](w)
		w.write(&amqp.Transfer{})
		if d := read[*amqp.Detach](w); d.Error == nil || d.Error.Condition != amqp.CondInvalidField {
			t.Errorf("detach %+v, want %s", d.Error, amqp.CondInvalidField)
		}
		w.write(&amqp.Transfer{}) // on its way when the link went
		w.write(&amqp.Detach{Closed: true})
		w.sender(0, "queue")
	})
}

func TestEchoedFlow(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
		w.receiver(0, "queue")
		w.flow(amqp.Flow{IncomingWindow: 10, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(4)), Echo: true})
		if f := read[*amqp.Flow](w); *f.NextIncomingID != 0 || *f.LinkCredit != 4 || *f.DeliveryCount != 0 || f.Echo {
			t.Errorf("flow %+v, want credit 4", f)
		}
		w.flow(amqp.Flow{IncomingWindow: 10, Echo: true})
		if f := read[*amqp.Flow](w); f.Handle != nil {
			t.Errorf("flow %+v, want one without a handle", f)
		}
	})
}

// A reply waits for the credit of its link.
func TestReplyWaitsForCredit(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, _ *emulator, w *wire) {
		w.sender(0, "$cbs")
		read[*amqp.Flow](w)
		w.receiver(1, "$cbs")
		request, err := (&amqp.Message{
			Properties: &amqp.Properties{MessageID: "1", ReplyTo: "receiver-1"},
			ApplicationProperties: amqp.Map{
				{Key: "operation", Value: "put-token"}, {Key: "type", Value: "jwt"}, {Key: "name", Value: "sb://emu/queue"}},
			Body: amqp.Value{Value: "token"},
		}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.writeFrame(amqp.Frame{Body: &amqp.Transfer{DeliveryID: new(uint32(0)), DeliveryTag: []byte{1}}, Payload: request})
		if d := read[*amqp.Disposition](w); !d.Settled {
			t.Errorf("disposition %+v, want a settled one", d)
		}
		w.quiet()
		w.flow(amqp.Flow{IncomingWindow: 10, Handle: new(uint32(1)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(4))})
		f := w.next()
		reply, err := amqp.ParseMessage(f.Payload)
		if err != nil {
			t.Fatalf("%T: %v", f.Body, err)
		}
		if reply.Properties.CorrelationID != "1" || reply.ApplicationProperties.Get("status-code") != int32(202) {
			t.Errorf("reply %+v, want status 202 to request 1", reply)
		}
	})
}

func TestHeartbeats(t *testing.T) {
	onWire(t, &amqp.Open{IdleTimeout: new(uint32(30000))}, wide(), func(t *testing.T, e *emulator, w *wire) {
		start := time.Now()
		f, err := w.reader.Read()
		if err != nil || f.Body != nil {
			t.Fatalf("read %+v, %v; want an empty frame", f, err)
		}
		if after := time.Since(start); after > 30*time.Second || after < 10*time.Second {
			t.Errorf("a heartbeat after %v", after)
		}
		// A client that says nothing for twice the server's idle time-out is gone.
		for err == nil {
			_, err = w.reader.Read()
		}
		if after := time.Since(start); after != 4*time.Minute {
			t.Errorf("the connection ended after %v, want 4 minutes", after)
		}
	})
}

// Replies that nobody takes must not fill the memory.
func TestClientThatTakesNoReplies(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		enqueue(t, e, "queue", make([]byte, 250<<10))
		w.sender(0, "queue/$management")
		read[*amqp.Flow](w)
		w.receiver(1, "queue/$management")
		request, err := (&amqp.Message{
			Properties:            &amqp.Properties{MessageID: "1"},
			ApplicationProperties: amqp.Map{{Key: "operation", Value: "com.microsoft:peek-message"}},
			Body:                  amqp.Value{Value: amqp.Map{{Key: "from-sequence-number", Value: int64(0)}, {Key: "message-count", Value: int32(1)}}},
		}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		var out amqp.FrameWriter
		for id := uint32(0); ; id++ {
			if id == 1000 {
				t.Fatal("250 MB of replies are waiting")
			}
			out.Reset()
			if err := out.Append(amqp.Frame{Body: &amqp.Transfer{DeliveryID: &id, DeliveryTag: []byte{}, Settled: true}, Payload: request}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.conn.Write(out.Bytes()); err != nil {
				break // cut off
			}
		}
		synctest.Wait()
		if n := e.Connections(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

// A client that never reads is cut off and holds up nobody.
func TestClientThatDoesNotRead(t *testing.T) {
	onWire(t, &amqp.Open{}, wide(), func(t *testing.T, e *emulator, w *wire) {
		w.receiver(0, "queue")
		w.flow(amqp.Flow{IncomingWindow: 1 << 30, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(1000))})
		client := e.newClient(t)
		s := newSender(t, client, "queue")
		for range 100 {
			send(t, s, text("x"))
		}
		wait(5 * time.Minute)
		if n := e.Connections(); n != 1 {
			t.Errorf("%d connections, want the other client's only", n)
		}
	})
}
