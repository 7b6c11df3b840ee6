package amqp

import (
	"bytes"
	"testing"
	"time"

	goamqp "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

func TestMessagePassesThrough(t *testing.T) {
	sent := "005370 c0 02 01 41" + // header: durable
		"005372 c1 01 00" +
		"005373 c0 04 01 a1 01 69" + // properties: message-id "i"
		"005374 c1 05 02 a1 01 6b 41" +
		"005375 a0 01 78" + "005375 b0 00000001 79" + // the second in a wider form than needed
		"005378 c1 01 00"
	b := unhex(t, sent)
	m, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Header.Durable || m.Properties.MessageID != "i" || m.ApplicationProperties.Get("k") != true {
		t.Errorf("decoded %+v, %+v, %+v", m.Header, m.Properties, m.ApplicationProperties)
	}
	if diff := cmp.Diff(Data{[]byte("x"), []byte("y")}, m.Body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	m.Header, m.Annotations = nil, nil
	got, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if bare := b[7+6:]; !bytes.Equal(got, bare) {
		t.Errorf("the bare message changed:\ngot  %x\nwant %x", got, bare)
	}
	m.ApplicationProperties, m.Raw.ApplicationProperties = Map{{"n", uint8(1)}}, nil
	if got, err = m.Append(nil); err != nil || !bytes.Contains(got, unhex(t, "c1 06 02 a1 01 6e 50 01")) || !bytes.HasSuffix(got, m.Raw.Body) {
		t.Errorf("with other properties: %x, %v", got, err)
	}
}

func TestMalformedMessages(t *testing.T) {
	for name, wire := range map[string]string{
		"no section":            "40",
		"unknown section":       "005379 45",
		"sections out of order": "005373 45 005370 45",
		"two headers":           "005370 45 005370 45",
		"two values":            "005377 40 005377 40",
		"data then sequence":    "005375 a0 00 005376 45",
		"data of a string":      "005375 a1 00",
		"properties of a map":   "005373 c1 01 00",
		"annotations of a list": "005372 45",
		"null properties":       "005374 40",
		"cut short":             "005375 a0 05 78",
	} {
		if m, err := ParseMessage(unhex(t, wire)); err == nil {
			t.Errorf("%s: decoded as %+v", name, m)
		}
	}
}

// go-amqp, which the Azure SDK uses, is the second opinion in both directions.
func TestAgreesWithGoAMQP(t *testing.T) {
	created := time.UnixMilli(1767323045006).UTC()
	theirs := &goamqp.Message{
		Header:      &goamqp.MessageHeader{Durable: true, Priority: 7, TTL: time.Minute, DeliveryCount: 3},
		Annotations: goamqp.Annotations{"x-opt-scheduled-enqueue-time": created},
		Properties: &goamqp.MessageProperties{
			MessageID: "id", UserID: []byte{1}, To: new("to"), Subject: new("subject"), ReplyTo: new("reply"), CorrelationID: uint64(500),
			ContentType: new("json"), ContentEncoding: new("gzip"), AbsoluteExpiryTime: &created, CreationTime: &created,
			GroupID: new("group"), GroupSequence: new(uint32(9)), ReplyToGroupID: new("rg"),
		},
		ApplicationProperties: map[string]any{"int": int64(-1)},
		Data:                  [][]byte{bytes.Repeat([]byte("x"), 300)},
	}
	ours := &Message{
		Header:      &Header{Durable: true, Priority: new(uint8(7)), TTL: new(uint32(60000)), DeliveryCount: 3},
		Annotations: Map{{Symbol("x-opt-scheduled-enqueue-time"), created}},
		Properties: &Properties{
			MessageID: "id", UserID: []byte{1}, To: "to", Subject: "subject", ReplyTo: "reply", CorrelationID: uint64(500),
			ContentType: "json", ContentEncoding: "gzip", AbsoluteExpiryTime: created, CreationTime: created,
			GroupID: "group", GroupSequence: new(uint32(9)), ReplyToGroupID: "rg",
		},
		ApplicationProperties: Map{{"int", int64(-1)}},
		Body:                  Data(theirs.Data),
	}
	b, err := theirs.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	decoded.Raw = Raw{}
	if diff := cmp.Diff(ours, decoded); diff != "" {
		t.Errorf("their message decoded (-want +got):\n%s", diff)
	}
	if b, err = ours.Append(nil); err != nil {
		t.Fatal(err)
	}
	var back goamqp.Message
	if err := back.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs.Properties, back.Properties); diff != "" {
		t.Errorf("our properties decoded by go-amqp (-want +got):\n%s", diff)
	}
	if !bytes.Equal(back.Data[0], theirs.Data[0]) || back.Header.TTL != time.Minute || back.ApplicationProperties["int"] != int64(-1) {
		t.Errorf("our message decoded by go-amqp: %+v", back)
	}
}
