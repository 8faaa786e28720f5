module github.com/catga/catga-go/benchmarks

go 1.26.0

replace github.com/catga/catga-go => ../
