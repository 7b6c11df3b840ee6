package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// printTable prints rows in columns as wide as their widest cell; the first row is the head.
func printTable(out io.Writer, rows [][]string) { new(table).print(out, rows) }

// A table is printed in parts, each as wide as everything so far.
type table struct {
	widths   []int
	lineSize int // in characters, to which lines are cut; 0 does not cut
}

func (t *table) print(out io.Writer, rows [][]string) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(out, shorten(strings.TrimRight(line.String(), " "), t.lineSize))
	}
}

// shorten cuts a text to n characters; 0 does not.
func shorten(text string, n int) string {
	runes := []rune(text)
	if n == 0 || len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}
