package amqp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// The fuzz targets compare encodings, not values: what decodes must encode to
// bytes that decode and encode to the same bytes.

func FuzzValue(f *testing.F) {
	for _, v := range []any{nil, true, uint64(300), "text", Symbol("s"), uuid, List{1.5, Map{{"k", Array{int64(1)}}}}, Described{uint64(1), Char(2)}, Array{Array{true}}, Decimal("1234")} {
		b, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Unmarshal(b)
		if err != nil {
			return
		}
		once, err := Marshal(v)
		if err != nil {
			t.Fatalf("%#v does not encode: %v", v, err)
		}
		again, err := Unmarshal(once)
		if err != nil {
			t.Fatalf("%x from %#v does not decode: %v", once, v, err)
		}
		if twice, err := Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x encodes again as %x, %v", once, twice, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, body := range []Composite{
		&Open{ContainerID: "c", IdleTimeout: new(uint32(1))}, &Begin{}, &Attach{Name: "n", Source: &Source{Address: "a"}, Target: &Target{}},
		&Flow{Handle: new(uint32(1))}, &Transfer{DeliveryTag: []byte{1}, State: &Received{}}, &Disposition{State: &Rejected{Error: &Error{Condition: "c"}}},
		&Detach{}, &End{}, &Close{}, &SASLMechanisms{Mechanisms: Array{Symbol("ANONYMOUS")}}, &SASLInit{Mechanism: "m"}, &Disposition{State: &Modified{}},
	} {
		var w FrameWriter
		if err := w.Append(Frame{Body: body, Payload: []byte("payload")}); err != nil {
			f.Fatal(err)
		}
		f.Add(w.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			binary.BigEndian.PutUint32(b, uint32(len(b))) // or nothing would get past the first check
		}
		frame, err := ParseFrame(b)
		if err != nil {
			return
		}
		var w, again FrameWriter
		if err := w.Append(frame); err != nil {
			t.Fatalf("%+v does not encode: %v", frame, err)
		}
		if frame, err = ParseFrame(w.Bytes()); err != nil {
			t.Fatalf("%x does not decode: %v", w.Bytes(), err)
		}
		if err := again.Append(frame); err != nil || !bytes.Equal(w.Bytes(), again.Bytes()) {
			t.Fatalf("%x encodes again as %x, %v", w.Bytes(), again.Bytes(), err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, m := range []*Message{
		{}, {Header: &Header{TTL: new(uint32(1))}, Annotations: Map{{Symbol("a"), uuid}}, Properties: &Properties{MessageID: "i"}, ApplicationProperties: Map{{"k", 1.5}}, Body: Data{{1}, {2}}, Footer: Map{}},
		{Body: Sequence{{"a"}, {}}}, {DeliveryAnnotations: Map{}, Body: Value{Map{{"k", List{}}}}},
	} {
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		for _, keepRaw := range []bool{true, false} {
			if !keepRaw {
				m.Raw = Raw{}
			}
			once, err := m.Append(nil)
			if err != nil {
				t.Fatalf("%+v does not encode: %v", m, err)
			}
			again, err := ParseMessage(once)
			if err != nil {
				t.Fatalf("%x from %+v does not decode: %v", once, m, err)
			}
			if !keepRaw {
				again.Raw = Raw{}
			}
			if twice, err := again.Append(nil); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%x encodes again as %x, %v", once, twice, err)
			}
		}
	})
}
