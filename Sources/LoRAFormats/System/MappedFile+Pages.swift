import Glibc

extension MappedFile {
    /// Lets go of the memory that reading `range` took (`madvise` with `MADV_DONTNEED`): going through a file of any
    /// size then takes little. The bytes stay readable, from the file.
    public func releasePages(_ range: Range<Int>) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let lower = (range.lowerBound + page - 1) / page * page
        // The last page of the file may be part of one.
        let upper = range.upperBound == bytes.count ? range.upperBound : range.upperBound / page * page
        guard lower < upper, let start = bytes.baseAddress else { return }
        madvise(UnsafeMutableRawPointer(mutating: start + lower), upper - lower, MADV_DONTNEED)
    }
}
