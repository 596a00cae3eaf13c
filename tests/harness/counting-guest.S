/*
 * A guest of a few instructions, for VMMs and for a KVM that runs no kernel: entered as PVH has it, in 32-bit mode.
 * At 2 MiB it has how often it went round and, after that, the time stamp at which it began, which is another one
 * in each guest that boots. It says so on its serial port once, and then a dot for each round, or in FLOOD nothing
 * but dots.
 */
	.set COUNT, 0x200000
	.set SERIAL, 0x3f8
	/* A dot is an exit from the guest: some hundred of them a second are no load. */
	.set PAUSES, 3000

	.section .note.pvh, "a", @note
	.long 4, 4, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	movl $COUNT, %edi
	rdtsc
	movl %eax, 8(%edi)
	movl %edx, 12(%edi)
	movl $message, %esi
	movw $SERIAL, %dx
1:	lodsb
	testb %al, %al
	jz round
	outb %al, %dx
	jmp 1b
round:
	addl $1, (%edi)
	adcl $0, 4(%edi)
	movb $'.', %al
	outb %al, %dx
#ifndef FLOOD
	movl $PAUSES, %ecx
2:	pause
	loop 2b
#endif
	jmp round
message:
	.asciz "counting guest\n"
