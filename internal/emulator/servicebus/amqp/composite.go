package amqp

import "time"

// A Composite is a described list with named fields: a performative, a delivery
// state, a terminus, an error or a list section of a message.
//
// Field types tell what null is: a pointer, a nil interface, an empty string, a
// nil slice, a zero time.Time are null on the wire; numbers and booleans are
// always written, and null reads as zero.
type Composite interface {
	descriptor() uint64
	// appendFields appends pointers to the fields in wire order.
	appendFields([]any) []any
}

type kind struct {
	name      string // the symbolic descriptor
	mandatory uint16 // bit n: field n must not be null
	make      func() Composite
}

var kinds = map[uint64]kind{
	0x10: {"amqp:open:list", 0b1, func() Composite { return new(Open) }},
	0x11: {"amqp:begin:list", 0b1110, func() Composite { return new(Begin) }},
	0x12: {"amqp:attach:list", 0b111, func() Composite { return new(Attach) }},
	0x13: {"amqp:flow:list", 0b1110, func() Composite { return new(Flow) }},
	0x14: {"amqp:transfer:list", 0b1, func() Composite { return new(Transfer) }},
	0x15: {"amqp:disposition:list", 0b11, func() Composite { return new(Disposition) }},
	0x16: {"amqp:detach:list", 0b1, func() Composite { return new(Detach) }},
	0x17: {"amqp:end:list", 0, func() Composite { return new(End) }},
	0x18: {"amqp:close:list", 0, func() Composite { return new(Close) }},
	0x1d: {"amqp:error:list", 0b1, func() Composite { return new(Error) }},
	0x23: {"amqp:received:list", 0b11, func() Composite { return new(Received) }},
	0x24: {"amqp:accepted:list", 0, func() Composite { return new(Accepted) }},
	0x25: {"amqp:rejected:list", 0, func() Composite { return new(Rejected) }},
	0x26: {"amqp:released:list", 0, func() Composite { return new(Released) }},
	0x27: {"amqp:modified:list", 0, func() Composite { return new(Modified) }},
	0x28: {"amqp:source:list", 0, func() Composite { return new(Source) }},
	0x29: {"amqp:target:list", 0, func() Composite { return new(Target) }},
	0x30: {"amqp:coordinator:list", 0, func() Composite { return new(Coordinator) }},
	0x40: {"amqp:sasl-mechanisms:list", 0b1, func() Composite { return new(SASLMechanisms) }},
	0x41: {"amqp:sasl-init:list", 0b1, func() Composite { return new(SASLInit) }},
	0x44: {"amqp:sasl-outcome:list", 0b1, func() Composite { return new(SASLOutcome) }},
	0x70: {"amqp:header:list", 0, func() Composite { return new(Header) }},
	0x73: {"amqp:properties:list", 0, func() Composite { return new(Properties) }},
}

// codes maps symbolic descriptors, of message sections too, to numeric ones.
var codes = func() map[Symbol]uint64 {
	m := map[Symbol]uint64{
		"amqp:delivery-annotations:map":   sectionDeliveryAnnotations,
		"amqp:message-annotations:map":    sectionAnnotations,
		"amqp:application-properties:map": sectionApplicationProperties,
		"amqp:data:binary":                sectionData,
		"amqp:amqp-sequence:list":         sectionSequence,
		"amqp:amqp-value:*":               sectionValue,
		"amqp:footer:map":                 sectionFooter,
	}
	for code, k := range kinds {
		m[Symbol(k.name)] = code
	}
	return m
}()

// descriptor reads a constructor's 0x00 and descriptor.
func (d *decoder) descriptor() uint64 {
	if b := d.uint8(); b != 0 {
		d.fail("constructor 0x%02x where a described value is expected", b)
	}
	switch v := d.value().(type) {
	case uint64:
		return v
	case Symbol:
		if code, ok := codes[v]; ok {
			return code
		}
		d.fail("unknown descriptor %q", v)
	default:
		d.fail("a descriptor of type %T", v)
	}
	return 0
}

// composite reads any of the known composites.
func (d *decoder) composite() Composite {
	code := d.descriptor()
	if d.err != nil {
		return nil
	}
	k, ok := kinds[code]
	if !ok {
		d.fail("unknown descriptor 0x%02x", code)
		return nil
	}
	c := k.make()
	d.compositeFields(c, k)
	return c
}

// compositeOrNull reads a field that holds a composite; null is nil.
func (d *decoder) compositeOrNull() Composite {
	if len(d.b) > 0 && d.b[0] == 0x40 {
		d.b = d.b[1:]
		return nil
	}
	if d.depth++; d.depth > maxDepth {
		d.fail("values nested deeper than %d", maxDepth)
		return nil
	}
	c := d.composite()
	d.depth--
	return c
}

func (d *decoder) compositeFields(c Composite, k kind) {
	base := len(d.fields)
	d.fields = c.appendFields(d.fields)
	defer func() { d.fields = d.fields[:base] }()
	size := len(d.fields) - base

	var rest []byte
	count := 0
	switch code := d.uint8(); code {
	case 0x45:
		rest, d.b = d.b, nil
	case 0xc0, 0xd0:
		rest, count = d.open(code)
	default:
		d.fail("%s: constructor 0x%02x where a list is expected", k.name, code)
	}
	if count > size {
		d.fail("%s: %d fields, the standard has %d", k.name, count, size)
	}
	for n := range size {
		if d.err != nil {
			return
		}
		if null := n >= count || (len(d.b) > 0 && d.b[0] == 0x40); null && k.mandatory&(1<<n) != 0 {
			d.fail("%s: field %d must not be null", k.name, n)
		}
		if n < count {
			d.field(d.fields[base+n])
		}
	}
	d.close(rest)
}

// field reads one field into what p points to.
func (d *decoder) field(p any) {
	switch p := p.(type) {
	case *bool:
		*p, _ = typed[bool](d)
	case *uint8:
		*p, _ = typed[uint8](d)
	case *uint16:
		*p, _ = typed[uint16](d)
	case *uint32:
		*p, _ = typed[uint32](d)
	case *uint64:
		*p, _ = typed[uint64](d)
	case **uint8:
		*p = optional[uint8](d)
	case **uint16:
		*p = optional[uint16](d)
	case **uint32:
		*p = optional[uint32](d)
	case **uint64:
		*p = optional[uint64](d)
	case *string:
		*p, _ = typed[string](d)
	case *Symbol:
		*p, _ = typed[Symbol](d)
	case *[]byte:
		*p, _ = typed[[]byte](d)
	case *time.Time:
		*p, _ = typed[time.Time](d)
	case *Map:
		*p, _ = typed[Map](d)
	case *any:
		*p = d.value()
	case *Composite:
		*p = d.compositeOrNull()
	case **Source:
		*p = pointed[*Source](d)
	case **Error:
		*p = pointed[*Error](d)
	default:
		d.fail("a field of type %T", p)
	}
}

func optional[T any](d *decoder) *T {
	if v, ok := typed[T](d); ok {
		return new(v)
	}
	return nil
}

// pointed reads a field that holds a composite of one kind.
func pointed[T Composite](d *decoder) (t T) {
	c := d.compositeOrNull()
	if c == nil {
		return t
	}
	t, ok := c.(T)
	if !ok {
		d.fail("%T where %T is expected", c, t)
	}
	return t
}

func (e *encoder) composite(c Composite) {
	e.bytes(0x00, 0x53)
	e.byte(byte(c.descriptor()))
	base := len(e.fields)
	e.fields = c.appendFields(e.fields)
	size := len(e.fields) - base
	if size == 0 {
		e.byte(0x45)
		return
	}
	start := e.open(0xc0)
	for n := range size {
		e.field(e.fields[base+n])
	}
	e.close(start, size)
	clear(e.fields[base:])
	e.fields = e.fields[:base]
}

// field writes what p points to.
func (e *encoder) field(p any) {
	switch p := p.(type) {
	case *bool:
		e.value(*p)
	case *uint8:
		e.bytes(0x50, *p)
	case *uint16:
		e.fixed(*p)
	case *uint32:
		e.uint32(*p)
	case *uint64:
		e.uint64(*p)
	case **uint8:
		valueOrNull(e, *p)
	case **uint16:
		valueOrNull(e, *p)
	case **uint32:
		valueOrNull(e, *p)
	case **uint64:
		valueOrNull(e, *p)
	case *string:
		e.textOrNull(0xa1, *p)
	case *Symbol:
		e.textOrNull(0xa3, string(*p))
	case *[]byte:
		if *p == nil {
			e.byte(0x40)
		} else {
			e.value(*p)
		}
	case *time.Time:
		if p.IsZero() {
			e.byte(0x40)
		} else {
			e.fixed(*p)
		}
	case *Map:
		if *p == nil {
			e.byte(0x40)
		} else {
			e.mapValue(*p)
		}
	case *any:
		e.value(*p)
	case *Composite:
		if *p == nil {
			e.byte(0x40)
		} else {
			e.composite(*p)
		}
	case **Source:
		if *p == nil {
			e.byte(0x40)
		} else {
			e.composite(*p)
		}
	case **Error:
		if *p == nil {
			e.byte(0x40)
		} else {
			e.composite(*p)
		}
	default:
		e.fail("a field of type %T", p)
	}
}

func valueOrNull[T any](e *encoder, p *T) {
	if p == nil {
		e.byte(0x40)
	} else {
		e.value(*p)
	}
}

func (e *encoder) textOrNull(code byte, s string) {
	if s == "" {
		e.byte(0x40)
	} else {
		e.text(code, s)
	}
}
