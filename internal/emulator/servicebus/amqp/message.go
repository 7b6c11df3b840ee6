package amqp

import (
	"encoding/binary"
	"time"
)

// BatchFormat is the message format of a transfer whose message is an envelope:
// each of its data sections is the encoding of one message. Source: Azure
// Service Bus.
const BatchFormat uint32 = 0x80013700

const (
	sectionHeader                = 0x70
	sectionDeliveryAnnotations   = 0x71
	sectionAnnotations           = 0x72
	sectionProperties            = 0x73
	sectionApplicationProperties = 0x74
	sectionData                  = 0x75
	sectionSequence              = 0x76
	sectionValue                 = 0x77
	sectionFooter                = 0x78
)

// Header is the section with the transfer details of a message.
type Header struct {
	Durable       bool
	Priority      *uint8  // nil = 4
	TTL           *uint32 // milliseconds; nil = for ever
	FirstAcquirer bool
	DeliveryCount uint32 // failed deliveries so far
}

// Properties is the section with the standard properties of a message.
type Properties struct {
	MessageID          any // string, uint64, UUID or []byte
	UserID             []byte
	To                 string
	Subject            string
	ReplyTo            string
	CorrelationID      any // as MessageID
	ContentType        Symbol
	ContentEncoding    Symbol
	AbsoluteExpiryTime time.Time
	CreationTime       time.Time
	GroupID            string
	GroupSequence      *uint32
	ReplyToGroupID     string
}

func (*Header) descriptor() uint64     { return sectionHeader }
func (*Properties) descriptor() uint64 { return sectionProperties }

func (h *Header) appendFields(f []any) []any {
	return append(f, &h.Durable, &h.Priority, &h.TTL, &h.FirstAcquirer, &h.DeliveryCount)
}

func (p *Properties) appendFields(f []any) []any {
	return append(f, &p.MessageID, &p.UserID, &p.To, &p.Subject, &p.ReplyTo, &p.CorrelationID, &p.ContentType,
		&p.ContentEncoding, &p.AbsoluteExpiryTime, &p.CreationTime, &p.GroupID, &p.GroupSequence, &p.ReplyToGroupID)
}

// A Message is a message with its sections; absent ones are nil.
type Message struct {
	Header                *Header
	DeliveryAnnotations   Map
	Annotations           Map
	Properties            *Properties
	ApplicationProperties Map
	Body                  any // Data, Sequence, Value or nil
	Footer                Map

	Raw Raw
}

// Data is a body of binary sections.
type Data [][]byte

// Sequence is a body of list sections.
type Sequence []List

// Value is a body of one value.
type Value struct{ Value any }

// Raw holds sections as they were received. Where it has one, Append writes it
// instead of the decoded section, so that a message passes through unchanged.
type Raw struct {
	Properties            []byte
	ApplicationProperties []byte
	Body                  []byte // the body and the footer
}

// ParseMessage decodes a message and keeps its bare sections in Raw. The
// message points into b.
func ParseMessage(b []byte) (*Message, error) {
	m := &Message{}
	d := &decoder{b: b}
	for previous := uint64(0); len(d.b) > 0 && d.err == nil; {
		from := len(b) - len(d.b)
		code := d.descriptor()
		repeatable := code == sectionData || code == sectionSequence
		// rhea, the library under the Azure SDK for JavaScript, writes the footer before the body.
		early := previous == sectionFooter && code >= sectionData
		if code < previous && !early || code == previous && !repeatable {
			d.fail("section 0x%02x after section 0x%02x", code, previous)
		}
		previous = code
		m.section(d, code)
		if d.err == nil {
			m.keep(code, b, from, len(b)-len(d.b))
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

func (m *Message) section(d *decoder, code uint64) {
	switch code {
	case sectionHeader:
		m.Header = new(Header)
		d.compositeFields(m.Header, kinds[code])
	case sectionDeliveryAnnotations:
		m.DeliveryAnnotations = sectionOf[Map](d)
	case sectionAnnotations:
		m.Annotations = sectionOf[Map](d)
	case sectionProperties:
		m.Properties = new(Properties)
		d.compositeFields(m.Properties, kinds[code])
	case sectionApplicationProperties:
		m.ApplicationProperties = sectionOf[Map](d)
	case sectionFooter:
		m.Footer = sectionOf[Map](d)
	case sectionData, sectionSequence, sectionValue:
		m.body(d, code)
	default:
		d.fail("unknown section 0x%02x", code)
	}
}

func (m *Message) body(d *decoder, code uint64) {
	switch body := m.Body.(type) {
	case nil:
		switch code {
		case sectionData:
			m.Body = Data{sectionOf[[]byte](d)}
		case sectionSequence:
			m.Body = Sequence{sectionOf[List](d)}
		default:
			m.Body = Value{d.value()}
		}
		return
	case Data:
		if code == sectionData {
			m.Body = append(body, sectionOf[[]byte](d))
			return
		}
	case Sequence:
		if code == sectionSequence {
			m.Body = append(body, sectionOf[List](d))
			return
		}
	}
	d.fail("a body of different sections")
}

// sectionOf reads the content of a section, which must be a T and not null.
func sectionOf[T any](d *decoder) T {
	t, ok := typed[T](d)
	if !ok {
		d.fail("a section without %T", t)
	}
	return t
}

// keep notes the bytes of a bare section; those of the body and footer are contiguous.
func (m *Message) keep(code uint64, b []byte, from, to int) {
	switch {
	case code == sectionProperties:
		m.Raw.Properties = b[from:to:to]
	case code == sectionApplicationProperties:
		m.Raw.ApplicationProperties = b[from:to:to]
	case code >= sectionData:
		start := from - len(m.Raw.Body)
		m.Raw.Body = b[start:to:to]
	}
}

// Append appends the encoding of m to b.
func (m *Message) Append(b []byte) ([]byte, error) {
	e := &encoder{b: b}
	if m.Header != nil {
		e.composite(m.Header)
	}
	e.mapSection(sectionDeliveryAnnotations, m.DeliveryAnnotations)
	e.mapSection(sectionAnnotations, m.Annotations)
	switch {
	case m.Raw.Properties != nil:
		e.b = append(e.b, m.Raw.Properties...)
	case m.Properties != nil:
		e.composite(m.Properties)
	}
	if m.Raw.ApplicationProperties != nil {
		e.b = append(e.b, m.Raw.ApplicationProperties...)
	} else {
		e.mapSection(sectionApplicationProperties, m.ApplicationProperties)
	}
	if m.Raw.Body != nil {
		e.b = append(e.b, m.Raw.Body...)
	} else {
		e.body(m.Body)
		e.mapSection(sectionFooter, m.Footer)
	}
	return e.b, e.err
}

func (e *encoder) body(body any) {
	switch body := body.(type) {
	case nil:
	case Data:
		for _, b := range body {
			e.section(sectionData)
			e.value(b)
		}
	case Sequence:
		for _, l := range body {
			e.section(sectionSequence)
			e.list(l)
		}
	case Value:
		e.section(sectionValue)
		e.value(body.Value)
	default:
		e.fail("a body of type %T", body)
	}
}

func (e *encoder) mapSection(code byte, m Map) {
	if m != nil {
		e.section(code)
		e.mapValue(m)
	}
}

func (e *encoder) section(code byte) { e.b = append(e.b, 0x00, 0x53, code) }

// SwapUUID turns an RFC 9562 UUID into .NET's mixed-endian byte order, the one
// that Service Bus uses for delivery tags, or back.
func SwapUUID(u UUID) UUID {
	binary.LittleEndian.PutUint32(u[:], binary.BigEndian.Uint32(u[:]))
	binary.LittleEndian.PutUint16(u[4:], binary.BigEndian.Uint16(u[4:]))
	binary.LittleEndian.PutUint16(u[6:], binary.BigEndian.Uint16(u[6:]))
	return u
}
