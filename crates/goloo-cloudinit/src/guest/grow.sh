# Makes the root's partition and file system as large as the disk.
grow_root() {
    root=$(findmnt -no SOURCE / | sed 's/\[.*//')
    kind=$(findmnt -no FSTYPE /)
    number=$(cat "/sys/class/block/${root##*/}/partition" 2>/dev/null)
    if [ -n "$number" ]; then
        disk=$(lsblk -ndo PKNAME "$root")
        said=$(growpart "/dev/$disk" "$number" 2>&1) || case $said in
        *NOCHANGE*) ;;
        *) echo "goloo: the partition can't be grown: $said" >&2 && return 1 ;;
        esac
    fi
    case $kind in
    ext*) resize2fs "$root" ;;
    xfs) xfs_growfs / ;;
    btrfs) btrfs filesystem resize max / ;;
    *) echo "goloo: a file system of the type $kind can't be grown" >&2 && return 1 ;;
    esac >/dev/null
}
grow_root || failed=1
