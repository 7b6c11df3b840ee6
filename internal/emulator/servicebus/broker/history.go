package broker

import (
	"slices"
	"time"
)

// A history remembers values by key and forgets the oldest first, in constant time each. A key in it must
// not be remembered again.
type history[K comparable, V any] struct {
	values map[K]V
	order  []event[K] // oldest first
	next   int        // index of the oldest that is not forgotten
}

type event[K comparable] struct {
	key K
	at  time.Time
}

func (h *history[K, V]) len() int { return len(h.order) - h.next }

func (h *history[K, V]) lookup(k K) (V, bool) {
	v, ok := h.values[k]
	return v, ok
}

// oldest and newest return the time of the first and of the last entry, false if there is none.

func (h *history[K, V]) oldest() (time.Time, bool) {
	if h.len() == 0 {
		return time.Time{}, false
	}
	return h.order[h.next].at, true
}

func (h *history[K, V]) newest() (time.Time, bool) {
	if h.len() == 0 {
		return time.Time{}, false
	}
	return h.order[len(h.order)-1].at, true
}

func (h *history[K, V]) remember(k K, v V, at time.Time) {
	if h.values == nil {
		h.values = make(map[K]V)
	}
	h.values[k] = v
	h.order = append(h.order, event[K]{k, at})
}

func (h *history[K, V]) forgetOldest() V {
	key := h.order[h.next].key
	v := h.values[key]
	delete(h.values, key)
	h.next++
	if h.next > len(h.order)/2 {
		h.shrink()
	}
	return v
}

// shrink copies what is left: neither a map nor a slice gives memory back by itself.
func (h *history[K, V]) shrink() {
	if h.len() == 0 {
		*h = history[K, V]{}
		return
	}
	h.order, h.next = slices.Clone(h.order[h.next:]), 0
	values := make(map[K]V, len(h.order))
	for _, e := range h.order {
		values[e.key] = h.values[e.key]
	}
	h.values = values
}
