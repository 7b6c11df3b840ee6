package amqp

import (
	"encoding/binary"
	"reflect"
	"time"
)

func (d *decoder) array(code byte) Array {
	rest, count := d.open(code)
	var descriptors []any
	element := d.uint8()
	for element == 0 && d.err == nil {
		if len(descriptors) == maxDepth {
			d.fail("an array element with more than %d descriptors", maxDepth)
		}
		descriptors = append(descriptors, d.value())
		element = d.uint8()
	}
	a := make(Array, 0, min(count, preallocate))
	for n := 0; n < count && d.err == nil; n++ {
		a = append(a, d.element(element, descriptors))
	}
	d.close(rest)
	return a
}

func (d *decoder) element(code byte, descriptors []any) any {
	before := len(d.b)
	if d.depth++; d.depth > maxDepth {
		d.fail("values nested deeper than %d", maxDepth)
		return nil
	}
	v := d.valueOf(code)
	d.depth--
	if len(d.b) == before {
		if d.zeroWidth++; d.zeroWidth > maxZeroWidth {
			d.fail("more than %d array elements without bytes", maxZeroWidth)
		}
	}
	for i := len(descriptors) - 1; i >= 0; i-- {
		v = Described{Descriptor: descriptors[i], Value: v}
	}
	return v
}

func (e *encoder) array(a Array) {
	start := e.open(0xe0)
	e.elements(a)
	e.close(start, len(a))
}

// elements writes the common constructor of an array and then its elements
// without one, each in the widest form of its type.
func (e *encoder) elements(a []any) {
	if len(a) == 0 {
		e.byte(0x40)
		return
	}
	if first, ok := a[0].(Described); ok {
		e.describedElements(first, a)
		return
	}
	code := wideConstructor(a[0])
	e.byte(code)
	for _, v := range a {
		if reflect.TypeOf(v) != reflect.TypeOf(a[0]) || wideConstructor(v) != code {
			e.fail("an array that holds %T and %T", a[0], v)
			return
		}
		e.element(v)
	}
}

func (e *encoder) describedElements(first Described, a []any) {
	values := make([]any, len(a))
	for i, v := range a {
		described, ok := v.(Described)
		if !ok || !sameValue(described.Descriptor, first.Descriptor) {
			e.fail("an array whose elements have different descriptors")
			return
		}
		values[i] = described.Value
	}
	e.byte(0x00)
	e.value(first.Descriptor)
	e.elements(values)
}

// sameValue compares encodings, because a floating-point NaN is never equal to itself.
func sameValue(a, b any) bool {
	x, errX := Marshal(a)
	y, errY := Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// element writes v without its constructor, in the form that wideConstructor names.
func (e *encoder) element(v any) {
	switch v := v.(type) {
	case nil:
	case bool:
		if v {
			e.byte(1)
		} else {
			e.byte(0)
		}
	case uint32:
		e.b = binary.BigEndian.AppendUint32(e.b, v)
	case uint64:
		e.b = binary.BigEndian.AppendUint64(e.b, v)
	case []byte:
		e.wide(string(v))
	case string:
		e.wide(v)
	case Symbol:
		e.wide(string(v))
	case List:
		start := e.openWide()
		for _, item := range v {
			e.value(item)
		}
		e.closeWide(start, len(v))
	case Map:
		start := e.openWide()
		for _, entry := range v {
			e.value(entry.Key)
			e.value(entry.Value)
		}
		e.closeWide(start, 2*len(v))
	case Array:
		start := e.openWide()
		e.elements(v)
		e.closeWide(start, len(v))
	default:
		e.fixedBytes(v)
	}
}

func (e *encoder) wide(s string) {
	e.b = append(binary.BigEndian.AppendUint32(e.b, uint32(len(s))), s...)
}

// wideConstructor is the constructor of the widest form of v's type, 0 if v has none.
func wideConstructor(v any) byte {
	switch v := v.(type) {
	case nil:
		return 0x40
	case bool:
		return 0x56
	case uint8:
		return 0x50
	case int8:
		return 0x51
	case uint16:
		return 0x60
	case int16:
		return 0x61
	case uint32:
		return 0x70
	case int32:
		return 0x71
	case uint64:
		return 0x80
	case int64:
		return 0x81
	case float32:
		return 0x72
	case float64:
		return 0x82
	case Char:
		return 0x73
	case Decimal:
		return map[int]byte{4: 0x74, 8: 0x84, 16: 0x94}[len(v)]
	case time.Time:
		return 0x83
	case UUID:
		return 0x98
	case []byte:
		return 0xb0
	case string:
		return 0xb1
	case Symbol:
		return 0xb3
	case List:
		return 0xd0
	case Map:
		return 0xd1
	case Array:
		return 0xf0
	}
	return 0
}

func (e *encoder) openWide() (start int) {
	start = len(e.b)
	e.b = append(e.b, 0, 0, 0, 0, 0, 0, 0, 0)
	return start
}

func (e *encoder) closeWide(start, count int) {
	binary.BigEndian.PutUint32(e.b[start:], uint32(len(e.b)-start-4))
	binary.BigEndian.PutUint32(e.b[start+4:], uint32(count))
}
