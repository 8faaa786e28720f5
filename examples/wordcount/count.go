package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// figures are what is counted, in one file or in many.
type figures struct {
	Files, Lines, Words, Bytes int64
}

func (f *figures) add(g figures) {
	f.Files += g.Files
	f.Lines += g.Lines
	f.Words += g.Words
	f.Bytes += g.Bytes
}

// countFile counts as wc does: a line ends with a newline, words are what white
// space separates.
func countFile(path string) (figures, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return figures{}, err
	}
	f := figures{Files: 1, Lines: int64(bytes.Count(data, []byte{'\n'})), Bytes: int64(len(data))}
	for range bytes.FieldsSeq(data) {
		f.Words++
	}
	return f, nil
}

// findGoFiles returns every .go file below dir. What cannot be read is an error:
// a total that leaves something out is not a total.
func findGoFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}
