package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// columns are what a CSV file may say of a request, by the names of a request's fields; first those that select connections.
var columns = []string{"connectionId", "privateEndpointId", "managedHsmId", "status", "requestId", "reason", "requestedBy",
	"ticketSystem", "ticketId", "ticketUrl", "notBefore", "dryRun", "force"}

// readFile reads the CSV file that the flag names.
func (c *submitCmd) readFile(stdin io.Reader) ([]draft, error) {
	var data []byte
	var err error
	if *c.CSV == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(*c.CSV)
	}
	if err != nil {
		return nil, config(fmt.Errorf("--csv: %w", err))
	}
	return readCSV(data)
}

// readCSV reads one request a row, below a header row. Rows without any text do not count.
func readCSV(data []byte) ([]draft, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // Excel's mark of UTF-8
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("the CSV file is not UTF-8: save it as CSV UTF-8")
	}
	reader := csv.NewReader(bytes.NewReader(data))
	reader.Comma = separator(data)
	reader.FieldsPerRecord = -1 // a row of another length is told in our words
	var header []string
	var rows rows
	for {
		cells, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return rows.done("nothing to submit: the CSV file has no row below its header")
		}
		if syntax, ok := errors.AsType[*csv.ParseError](err); ok {
			rows.refuse(syntax.StartLine, syntax.Err)
			continue
		}
		line, _ := reader.FieldPos(0)
		switch {
		case err != nil:
			return nil, err
		case strings.TrimSpace(strings.Join(cells, "")) == "":
		case header == nil:
			if header, err = readHeader(cells); err != nil {
				return nil, faultAt(place(line), err) // without it no row can be understood
			}
		default:
			body, err := readRow(header, cells)
			rows.add(line, body, err)
		}
	}
}

// separator is what stands between the names of the header row; Excel writes semicolons where the decimal mark is a comma.
func separator(data []byte) rune {
	header, _, _ := bytes.Cut(bytes.TrimLeft(data, "\r\n"), []byte("\n"))
	if bytes.ContainsRune(header, ';') && !bytes.ContainsRune(header, ',') {
		return ';'
	}
	return ','
}

// readHeader finds the column that each cell names. A misspelt one is an error: a guard in it would be dropped.
func readHeader(cells []string) ([]string, error) {
	var header []string
	var faults []error
	for _, cell := range cells {
		cell = strings.TrimSpace(cell)
		at := slices.IndexFunc(columns, func(column string) bool {
			return strings.EqualFold(column, cell) || strings.EqualFold(column, strings.Replace(strings.ToLower(cell), "ticket.", "ticket", 1))
		})
		switch {
		case at < 0:
			faults = append(faults, fmt.Errorf("%.100q is not a column", cell))
		case slices.Contains(header, columns[at]):
			faults = append(faults, fmt.Errorf("the column %s is there twice", columns[at]))
		default:
			header = append(header, columns[at])
		}
	}
	if len(faults) == 0 && !slices.ContainsFunc(columns[:3], func(selector string) bool { return slices.Contains(header, selector) }) {
		faults = append(faults, errors.New("no column says what to delete"))
	}
	if len(faults) > 0 {
		faults = append(faults, fmt.Errorf("the columns are %s", strings.Join(columns, ", ")))
	}
	return header, errors.Join(faults...)
}

// readRow makes the body of a request of a row's cells. The same cells make the same body, whatever the order of the columns.
func readRow(header, cells []string) ([]byte, error) {
	if len(cells) != len(header) {
		return nil, fmt.Errorf("has %d cells, and the header %d", len(cells), len(header))
	}
	row := map[string]string{} // what the cells say, by column; every column of the header is a key
	for i, column := range header {
		row[column] = strings.TrimSpace(cells[i])
	}
	fields, ticket := map[string]any{}, map[string]string{}
	var faults []error
	for _, column := range header {
		cell := row[column]
		ticketField, ofTicket := strings.CutPrefix(column, "ticket")
		switch {
		case cell == "":
			faults = append(faults, dropsGuard(column, row))
		case !utf8.ValidString(cell):
			faults = append(faults, fmt.Errorf("%s: is not UTF-8; save the file as CSV UTF-8", column))
		case ofTicket:
			ticket[strings.ToLower(ticketField)] = cell
			fields["ticket"] = ticket
		case column == "status":
			fields[column] = strings.FieldsFunc(cell, func(r rune) bool { return r == ';' || unicode.IsSpace(r) })
		case column == "dryRun" || column == "force":
			yes := strings.EqualFold(cell, "true")
			if !yes && !strings.EqualFold(cell, "false") {
				faults = append(faults, fmt.Errorf("%s: is %.100q, expected true or false", column, cell))
			}
			fields[column] = yes
		default:
			fields[column] = cell
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// dropsGuard refuses an empty cell that would widen what is deleted. What should have filled it in did not.
func dropsGuard(column string, row map[string]string) error {
	switch column {
	case "status", "dryRun", "notBefore":
	case "privateEndpointId":
		if row["connectionId"] == "" {
			return nil // it is no guard
		}
	case "connectionId":
		if row["privateEndpointId"] != "" {
			return errors.New("connectionId: is empty, and so every connection of the privateEndpointId would be selected; fill it in, or remove the column")
		}
		return nil
	default:
		return nil
	}
	return fmt.Errorf("%s: is empty, and a guard that is there must say something; fill it in, or remove the column", column)
}
