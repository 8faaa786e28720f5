package bench

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestResultOfSamples(t *testing.T) {
	r := Result{Suite: "s", Case: "c", Unit: "s"}.Of([]float64{3, 1, 2, 10}).Beside("peer", []float64{5})
	if r.Ours != 2.5 || r.Min != 1 || r.Max != 10 || r.Samples != 4 || *r.Theirs != 5 || *r.Ratio != 0.5 {
		t.Errorf("%+v", r)
	}
}

func TestPercentile(t *testing.T) {
	sorted := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for p, want := range map[float64]float64{0: 1, 50: 5, 95: 10, 90: 9, 100: 10} {
		if got := Percentile(sorted, p); got != want {
			t.Errorf("p%v: %v, want %v", p, got, want)
		}
	}
}

func TestPrinterWritesOneObjectPerLine(t *testing.T) {
	var b bytes.Buffer
	p := NewPrinter(&b, true)
	p.Print(Result{Suite: "s", Case: "c", Unit: "s", LowerIsBetter: true}.Of([]float64{1}))
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"suite", "case", "unit", "ours", "min", "max", "samples", "lower_is_better"} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s in %s", key, b.String())
		}
	}
}
